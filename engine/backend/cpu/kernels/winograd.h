/* winograd.h - convolutions with 3x3 filters in fewer products. */
#ifndef GRDI_WINOGRAD_H
#define GRDI_WINOGRAD_H

#include "backend/cpu/convolution.h"
#include "backend/cpu/kernels/isa.h"

#include <stddef.h>

/* Whether this convolution can be done here, and faster than product by product in f32: two axes, 3x3, stride 1,
 * channels in whole vectors, enough of them and of tiles. */
bool GRDI_ISA_NAME(grdi_winograd_fits)(const grdi_convolution *c);

size_t GRDI_ISA_NAME(grdi_winograd_scratch)(const grdi_convolution *c, int32_t threads);

/* `scratch` is 64-byte aligned. Bits of the result do not depend on `threads`. */
void GRDI_ISA_NAME(grdi_winograd)(const grdi_convolution *c, const grdi_convolution_data *data, int32_t threads,
                                  void *scratch);

#endif
