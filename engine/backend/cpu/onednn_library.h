/* onednn_library.h - what the files that call oneDNN share: one engine and stream, and one spelling for what versions
 * 2.6 and 3.x spell differently. Empty without oneDNN. */
#ifndef GRDI_ONEDNN_LIBRARY_H
#define GRDI_ONEDNN_LIBRARY_H

#if defined(GRADUS_HAVE_ONEDNN)

#include <gradus/base.h>

#include <dnnl.h>
#include <stdbool.h>
#include <string.h>

/* One engine and one stream for the process: oneDNN keeps no state in them on a CPU. False where there are none. */
bool grdi_dnnl_ready(dnnl_engine_t *engine, dnnl_stream_t *stream);
/* Scratch memory is ours; `add` makes the primitive add to its destination. NULL when out of memory. */
dnnl_primitive_attr_t grdi_dnnl_attributes(bool add);
/* A slow stand-in for what the library has no code for: its name says so. */
bool grdi_dnnl_is_reference(const_dnnl_primitive_desc_t pd);

static inline dnnl_data_type_t grdi_dnnl_type(grd_dtype type)
{
    return type == GRD_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* grdi_dnnl_owned is a description of ours, grdi_dnnl_seen what calls take. */
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t grdi_dnnl_owned;
typedef const_dnnl_memory_desc_t grdi_dnnl_seen;

static inline grdi_dnnl_seen grdi_dnnl_see(const grdi_dnnl_owned *d)
{
    return *d;
}
static inline void grdi_dnnl_forget(grdi_dnnl_owned *d)
{
    if (*d) dnnl_memory_desc_destroy(*d);
}
#else
typedef dnnl_memory_desc_t grdi_dnnl_owned;
typedef const dnnl_memory_desc_t *grdi_dnnl_seen;

static inline grdi_dnnl_seen grdi_dnnl_see(const grdi_dnnl_owned *d)
{
    return d;
}
static inline void grdi_dnnl_forget(grdi_dnnl_owned *d)
{
    (void)d;
}
#endif

/* A description by strides; strides NULL: the library chooses how it lies. */
static inline bool grdi_dnnl_describe(grdi_dnnl_owned *d, int rank, const int64_t *dims, const int64_t *strides,
                                      grd_dtype type)
{
    dnnl_dims_t size, step;
    memcpy(size, dims, (size_t)rank * sizeof *dims);
    if (strides) memcpy(step, strides, (size_t)rank * sizeof *strides);
#if DNNL_VERSION_MAJOR >= 3
    if (!strides)
        return dnnl_memory_desc_create_with_tag(d, rank, size, grdi_dnnl_type(type), dnnl_format_tag_any) ==
               dnnl_success;
    return dnnl_memory_desc_create_with_strides(d, rank, size, grdi_dnnl_type(type), step) == dnnl_success;
#else
    if (!strides)
        return dnnl_memory_desc_init_by_tag(d, rank, size, grdi_dnnl_type(type), dnnl_format_tag_any) == dnnl_success;
    return dnnl_memory_desc_init_by_strides(d, rank, size, grdi_dnnl_type(type), step) == dnnl_success;
#endif
}

static inline grdi_dnnl_seen grdi_dnnl_query(const_dnnl_primitive_desc_t pd, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(pd, what, 0);
}

#endif
#endif
