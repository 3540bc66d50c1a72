/* base.h - what every other header needs: status, errors, dtypes, shapes. */
#ifndef GRADUS_BASE_H
#define GRADUS_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define GRD_API __attribute__((visibility("default")))
#define GRD_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define GRD_API
#define GRD_PRINTF(fmt, args)
#endif

/* The outcome of a call that runs, reads or writes. Calls that build a graph never return one: their errors are kept by
 * the graph (see graph.h). */
typedef enum grd_status {
    GRD_OK = 0,
    GRD_E_ARGUMENT,    /* a value that the call does not take */
    GRD_E_SHAPE,       /* shapes that do not fit each other */
    GRD_E_DTYPE,       /* element types that do not fit the op */
    GRD_E_MEMORY,      /* the host or the device has not enough memory */
    GRD_E_IO,          /* the operating system refused a file operation */
    GRD_E_FORMAT,      /* a file that is damaged or not what its name says */
    GRD_E_UNSUPPORTED, /* valid, but not available in this build or on this device */
    GRD_E_STATE,       /* the call came at the wrong time */
    GRD_E_NUMERIC,     /* NaN or infinity where finite numbers were needed */
    GRD_E_DEVICE,      /* the device failed or does not exist */
    GRD_E_STOPPED,     /* asked to stop (signal); everything is saved */
    GRD_E_SPACE        /* the disk is full, or a limit of the user's is reached */
} grd_status;

/* The name of a status, for messages ("shape", "io", ...). Never NULL. */
GRD_API const char *grd_status_name(grd_status status);

#define GRD_MESSAGE_MAX 1024

/* One error: what went wrong and where, in one line "<place>: <what> (<what to do>)". A zeroed struct means no error.
 * The first error wins: functions that take a `grd_error *` leave it alone when it already holds one. */
typedef struct grd_error {
    grd_status status;
    char message[GRD_MESSAGE_MAX];
} grd_error;

/* Record an error unless `error` is NULL or already holds one; returns `status` in any case, so that a caller can write
 * `return grd_fail(error, GRD_E_IO, "%s: ...", path);`. The message is cut at GRD_MESSAGE_MAX - 1 bytes. */
GRD_API grd_status grd_fail(grd_error *error, grd_status status, const char *format, ...) GRD_PRINTF(3, 4);

/* The same for what errno says: "PATH: cannot WHAT: No such file or directory (what to do)", where `what` is "open",
 * "read", "write", "create", ... GRD_E_SPACE where the disk, a quota or a limit on file sizes is full, else GRD_E_IO.
 */
GRD_API grd_status grd_fail_system(grd_error *error, const char *path, const char *what);

/* Element types. Zero is f32, the default everywhere. */
typedef enum grd_dtype {
    GRD_F32 = 0,
    GRD_F64,
    GRD_BF16,
    GRD_F16,
    GRD_I32,
    GRD_I64,
    GRD_U8,
    GRD_BOOL,
    GRD_DTYPE_COUNT
} grd_dtype;

/* Bytes of one element; 0 for a value that is no dtype. */
GRD_API size_t grd_dtype_size(grd_dtype dtype);
/* "f32", "bf16", "i64", ...; "?" for a value that is no dtype. */
GRD_API const char *grd_dtype_name(grd_dtype dtype);
/* The dtype of that name, or GRD_DTYPE_COUNT if there is none. */
GRD_API grd_dtype grd_dtype_from_name(const char *name);
/* True for f32, f64, bf16, f16. */
GRD_API bool grd_dtype_is_float(grd_dtype dtype);

#define GRD_RANK_MAX 8

/* A shape: up to eight dimensions, outermost first. Rank 0 is a scalar. */
typedef struct grd_dims {
    int32_t rank;
    int64_t dim[GRD_RANK_MAX];
} grd_dims;

GRD_API grd_dims grd_dims_make(int32_t rank, const int64_t *dim);

/* grd_shape(64, 784): a shape from its dimensions; grd_scalar() has none. */
#ifdef __cplusplus
} /* extern "C" */
template <typename... D> inline grd_dims grd_shape(D... d)
{
    grd_dims s = {static_cast<int32_t>(sizeof...(d)), {static_cast<int64_t>(d)...}};
    return s;
}
extern "C" {
#else
#define grd_shape(...)                                                                                                 \
    grd_dims_make((int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
#endif
GRD_API grd_dims grd_scalar(void);

/* Number of elements: the product of the dimensions (1 for a scalar), or -1 if it does not fit into 63 bits. */
GRD_API int64_t grd_dims_count(grd_dims dims);
GRD_API bool grd_dims_equal(grd_dims a, grd_dims b);

#define GRD_DIMS_TEXT_MAX 192
/* Writes "[8,1024,768]" into `text`, which holds at least GRD_DIMS_TEXT_MAX bytes, and returns `text`. */
GRD_API const char *grd_dims_text(grd_dims dims, char *text);

/* The library's version, "major.minor.patch". */
GRD_API const char *grd_version(void);

#ifdef __cplusplus
}
#endif
#endif
