/* shape.c - shapes: making, counting, comparing, printing. */
#include <gradus/base.h>

/* A rank outside [0, GRD_RANK_MAX] is kept as it is, so that whoever checks the shape can name it; only the dimensions
 * that have a place are copied. */
grd_dims grd_dims_make(int32_t rank, const int64_t *dim)
{
    grd_dims dims = {.rank = rank};
    for (int i = 0; dim && i < rank && i < GRD_RANK_MAX; i++)
        dims.dim[i] = dim[i];
    return dims;
}

grd_dims grd_scalar(void) { return (grd_dims){.rank = 0}; }

int64_t grd_dims_count(grd_dims dims)
{
    if (dims.rank < 0 || dims.rank > GRD_RANK_MAX)
        return -1;
    bool empty = false;
    for (int i = 0; i < dims.rank; i++) {
        if (dims.dim[i] < 0)
            return -1;
        empty |= dims.dim[i] == 0;
    }
    if (empty) /* whatever the other dimensions are: their product alone need not fit */
        return 0;
    int64_t count = 1;
    for (int i = 0; i < dims.rank; i++) {
        if (count > INT64_MAX / dims.dim[i])
            return -1;
        count *= dims.dim[i];
    }
    return count;
}

bool grd_dims_equal(grd_dims a, grd_dims b)
{
    if (a.rank != b.rank)
        return false;
    for (int i = 0; i < a.rank && i < GRD_RANK_MAX; i++) {
        if (a.dim[i] != b.dim[i])
            return false;
    }
    return true;
}

const char *grd_dims_text(grd_dims dims, char *text)
{
    size_t used = 0, room = GRD_DIMS_TEXT_MAX;
    text[used++] = '[';
    for (int i = 0; i < dims.rank && i < GRD_RANK_MAX; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%lld", i ? "," : "", (long long)dims.dim[i]);
    snprintf(text + used, room - used, dims.rank > GRD_RANK_MAX ? ",...]" : "]");
    return text;
}
