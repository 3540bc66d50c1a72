/* dtype.c - the element types: sizes and names. */
#include <gradus/base.h>

#include <string.h>

static const struct {
    const char *name;
    size_t size_bytes;
    bool is_float;
} dtypes[GRD_DTYPE_COUNT] = {
    [GRD_F32] = {"f32", 4, true},  [GRD_F64] = {"f64", 8, true},  [GRD_BF16] = {"bf16", 2, true},
    [GRD_F16] = {"f16", 2, true},  [GRD_I32] = {"i32", 4, false}, [GRD_I64] = {"i64", 8, false},
    [GRD_U8] = {"u8", 1, false},   [GRD_BOOL] = {"bool", 1, false},
};

static bool is_dtype(grd_dtype dtype) { return (unsigned)dtype < GRD_DTYPE_COUNT; }

size_t grd_dtype_size(grd_dtype dtype) { return is_dtype(dtype) ? dtypes[dtype].size_bytes : 0; }

const char *grd_dtype_name(grd_dtype dtype) { return is_dtype(dtype) ? dtypes[dtype].name : "?"; }

bool grd_dtype_is_float(grd_dtype dtype) { return is_dtype(dtype) && dtypes[dtype].is_float; }

grd_dtype grd_dtype_from_name(const char *name)
{
    for (int i = 0; name && i < GRD_DTYPE_COUNT; i++) {
        if (strcmp(dtypes[i].name, name) == 0)
            return (grd_dtype)i;
    }
    return GRD_DTYPE_COUNT;
}
