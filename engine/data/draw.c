/* draw.c - views as pixels: a box of an image resized, moved, mirrored, changed in colour. */
#include "base/memory.h"
#include "data/image.h"

#include <math.h>
#include <string.h>

void *grdi_room_take(grdi_room *room, size_t size_bytes)
{
    if (room->bytes && room->size_bytes >= size_bytes) return room->bytes;
    grdi_free(room->bytes);
    room->bytes = grdi_alloc(size_bytes);
    room->size_bytes = room->bytes ? size_bytes : 0;
    return room->bytes;
}

void grdi_view_rooms_free(grdi_view_rooms *rooms)
{
    grdi_free(rooms->row.bytes);
    grdi_free(rooms->weights.bytes);
}

/* ---- resizing ---- */

/* Along one axis: value `to` is the sum over k < count[to] of weight[to * taps + k] * from[first[to] + k]. */
typedef struct axis {
    int64_t taps;
    int32_t *first, *count;
    float *weight;
} axis;

static double ratio(double length, int64_t to)
{
    return fmax(length / (double)to, 1);
}

static int64_t taps_of(double length, int64_t to)
{
    return (int64_t)(2 * ceil(ratio(length, to)) + 1);
}

static size_t axis_bytes(double length, int64_t to)
{
    return (size_t)to * (2 * sizeof(int32_t) + (size_t)taps_of(length, to) * sizeof(float));
}

/* Bilinear with antialiasing: a triangle as wide as two pixels of the larger of both grids, about each value's centre,
 * within the image (as Pillow's and torch's `antialias=True`). Room is taken from *at on. */
static axis make_axis(double start, double length, int64_t from, int64_t to, char **at)
{
    axis a = {.taps = taps_of(length, to)};
    double step = length / (double)to, wide = ratio(length, to);
    a.first = (int32_t *)*at, a.count = a.first + to, a.weight = (float *)(a.count + to);
    *at = (char *)(a.weight + to * a.taps);
    for (int64_t i = 0; i < to; i++) {
        double centre = start + ((double)i + 0.5) * step - 0.5, sum = 0;
        int64_t low = (int64_t)fmax(floor(centre - wide) + 1, 0),
                high = (int64_t)fmin(ceil(centre + wide), (double)from);
        if (low >= high) low = low >= from ? from - 1 : 0, high = low + 1; /* outside: the pixel at the edge */
        float *weight = a.weight + i * a.taps;
        a.first[i] = (int32_t)low, a.count[i] = (int32_t)(high - low);
        for (int64_t k = low; k < high; k++)
            sum += weight[k - low] = (float)fmax(1 - fabs((double)k - centre) / wide, 0);
        for (int64_t k = 0; k < high - low; k++) weight[k] = sum > 0 ? (float)(weight[k] / sum) : k == 0;
    }
    return a;
}

/* Row `y` of the resized image before its columns are, from 0 to 1: values [first, last) of the rows of `from`. */
static void mix_rows(const axis *rows, int64_t y, grdi_pixels from, int64_t first, int64_t last, float *restrict row)
{
    int64_t stride = from.width * from.channels;
    const uint8_t *restrict at = from.bytes + rows->first[y] * stride;
    const float *weight = rows->weight + y * rows->taps;
    float w0 = weight[0] / 255.0f;
    int32_t count = rows->count[y];
    if (count == 2) { /* enlarged, or little smaller */
        const uint8_t *restrict below = at + stride;
        float w1 = weight[1] / 255.0f;
        for (int64_t i = first; i < last; i++) row[i] = w0 * (float)at[i] + w1 * (float)below[i];
        return;
    }
    for (int64_t i = first; i < last; i++) row[i] = w0 * (float)at[i];
    for (int32_t k = 1; k < count; k++) {
        const uint8_t *restrict more = at + k * stride;
        float w = weight[k] / 255.0f;
        for (int64_t i = first; i < last; i++) row[i] += w * (float)more[i];
    }
}

static inline void mix_columns(const axis *columns, int64_t x, const float *restrict row, int64_t channels,
                               float *restrict to)
{
    const float *from = row + columns->first[x] * channels, *weight = columns->weight + x * columns->taps;
    for (int64_t c = 0; c < channels; c++) to[c] = weight[0] * from[c];
    for (int32_t k = 1; k < columns->count[x]; k++)
        for (int64_t c = 0; c < channels; c++) to[c] += weight[k] * from[k * channels + c];
}

/* Columns of one row; a number of channels that the compiler knows is much faster. */
static void put_row(const axis *columns, const grdi_view *v, const float *row, int64_t width, int64_t channels,
                    float *to)
{
    for (int64_t x = 0; x < width; x++, to += channels) {
        int64_t at = (v->hflip ? width - 1 - x : x) + v->right;
        if (at < 0 || at >= width) memset(to, 0, (size_t)channels * sizeof(float));
        else if (channels == 3) mix_columns(columns, at, row, 3, to);
        else if (channels == 1) mix_columns(columns, at, row, 1, to);
        else mix_columns(columns, at, row, channels, to);
    }
}

static grd_status resize(const grdi_view *v, grdi_pixels from, int64_t height, int64_t width, float *to,
                         grdi_view_rooms *rooms)
{
    size_t bytes = axis_bytes(v->box.height, height) + axis_bytes(v->box.width, width);
    char *at = grdi_room_take(&rooms->weights, bytes);
    float *row = grdi_room_take(&rooms->row, (size_t)(from.width * from.channels) * sizeof(float));
    if (!at || !row) return GRD_E_MEMORY;
    axis rows = make_axis(v->box.top, v->box.height, from.height, height, &at);
    axis columns = make_axis(v->box.left, v->box.width, from.width, width, &at);
    int64_t first = columns.first[0] * from.channels;
    int64_t last = (columns.first[width - 1] + columns.count[width - 1]) * from.channels;
    for (int64_t y = 0; y < height; y++, to += width * from.channels) {
        int64_t source = y + v->down;
        if (source < 0 || source >= height) {
            memset(to, 0, (size_t)(width * from.channels) * sizeof(float));
            continue;
        }
        mix_rows(&rows, source, from, first, last, row);
        put_row(&columns, v, row, width, from.channels, to);
    }
    return GRD_OK;
}

/* ---- colours ---- */

static float in_range(float x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

#define RED 0.299f
#define GREEN 0.587f
#define BLUE 0.114f

/* Saturation and hue as one matrix: about grey in the space YIQ, where hue is an angle and saturation a length. */
static void colour_matrix(double saturation, double turns, float m[9])
{
    const double pi = 3.14159265358979323846, u = saturation * cos(2 * pi * turns),
                 w = saturation * sin(2 * pi * turns);
    const double grey[3] = {RED, GREEN, BLUE};
    /* rows of (YIQ -> RGB) rotation (RGB -> YIQ) = grey + u (1 - grey) + w turn */
    const double turn[9] = {0.168, 0.330, -0.497, -0.328, 0.035, 0.292, 1.250, -1.050, -0.203};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) m[3 * i + j] = (float)(grey[j] + u * ((i == j) - grey[j]) + w * turn[3 * i + j]);
}

static float mean_grey(const float *x, int64_t count, int64_t channels)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++, x += channels)
        sum += channels == 3 ? RED * x[0] + GREEN * x[1] + BLUE * x[2] : x[0];
    return (float)(sum / (double)count);
}

/* Brightness: x b. Contrast: x c + (1 - c) times the mean grey. Then saturation and hue. */
static void change_colours(const grdi_view *v, float *x, int64_t count, int64_t channels)
{
    float b = (float)v->brightness, c = (float)v->contrast, m[9];
    if (v->brightness != 1)
        for (int64_t i = 0; i < count * channels; i++) x[i] = in_range(x[i] * b);
    if (v->contrast != 1) {
        float rest = (1 - c) * mean_grey(x, count, channels);
        for (int64_t i = 0; i < count * channels; i++) x[i] = in_range(x[i] * c + rest);
    }
    if (channels != 3 || (v->saturation == 1 && v->hue == 0)) return;
    colour_matrix(v->saturation, v->hue, m);
    for (int64_t i = 0; i < count; i++, x += 3) {
        float r = x[0], g = x[1], a = x[2];
        for (int k = 0; k < 3; k++) x[k] = in_range(m[3 * k] * r + m[3 * k + 1] * g + m[3 * k + 2] * a);
    }
}

static void erase(const grdi_view *v, int64_t width, int64_t channels, const float *colour, float *to)
{
    for (int64_t y = v->erase_top; y < v->erase_top + v->erase_height; y++)
        for (int64_t x = v->erase_left; x < v->erase_left + v->erase_width; x++)
            memcpy(to + (y * width + x) * channels, colour, (size_t)channels * sizeof(float));
}

grd_status grdi_view_draw(const grdi_view *view, grdi_pixels from, int64_t to_height, int64_t to_width,
                          const float *erased, float *to, grdi_view_rooms *rooms)
{
    grd_status status = resize(view, from, to_height, to_width, to, rooms);
    if (status) return status;
    change_colours(view, to, to_height * to_width, from.channels);
    if (view->erase_height > 0) erase(view, to_width, from.channels, erased, to);
    return GRD_OK;
}
