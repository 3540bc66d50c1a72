/* precision.c - the words for precisions, and what each of them asks for. */
#include "train/settings.h"

#include <string.h>

/* By grd_precision. */
const char *const grdi_precisions[] = {"auto", "f32", "bf16", "tf32", "bf16-pure", "f16", NULL};

enum { PRECISIONS = sizeof(grdi_precisions) / sizeof(grdi_precisions[0]) - 1 };

const char *grd_precision_name(int precision)
{
    return precision >= 0 && precision < PRECISIONS ? grdi_precisions[precision] : NULL;
}

int grd_precision_from_name(const char *name)
{
    for (int i = 0; i < PRECISIONS; i++)
        if (strcmp(grdi_precisions[i], name) == 0) return i;
    return -1;
}

void grd_precision_ask(int precision, grd_program_options *options)
{
    options->bf16 = precision == GRD_PRECISION_BF16 || precision == GRD_PRECISION_BF16_PURE;
    options->f16 = precision == GRD_PRECISION_F16;
}

grd_status grd_model_set_precision(grd_model *model, int precision)
{
    return precision == GRD_PRECISION_BF16_PURE ? grd_model_set_weight_dtype(model, GRD_BF16) : GRD_OK;
}
