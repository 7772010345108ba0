/* The stem of the supernet, a 3x3 convolution with BatchNorm and affine parameters, on maps [channels, height, width, batch].
 *
 * The pixels under each entry of the kernel are gathered for one row of the map, so that the convolution of this row is a 1x1
 * convolution.
 */
#include "pointwise.h"
#include "statistics.h"

#define TAPS 9

typedef struct {
    long channels, inputs; /* of the result and of the images */
    long height, width, batch;
} Stem;

typedef struct {
    REAL *convolution; /* [channels, inputs, 3, 3] */
    REAL *scale, *shift;
} StemWeights;

INLINE StemWeights place_stem(REAL *at, const Stem *s) {
    REAL *scale = at + s->channels * s->inputs * TAPS;
    return (StemWeights){at, scale, scale + s->channels};
}

/* Entry t of the kernel reads `count` consecutive numbers of a map, beginning at `from`, for the outputs of row h that begin at
 * `to`. All other outputs of the row read padding, which is zero. */
typedef struct {
    long from, to, count;
} Run;

INLINE Run run_of(const Stem *s, long h, long t) {
    const long row = h + t / 3 - 1, shift = t % 3 - 1, b = s->batch;
    if (row < 0 || row >= s->height) return (Run){0, 0, 0};
    return (Run){(row * s->width + (shift > 0 ? shift : 0)) * b, (shift < 0 ? b : 0), (s->width - labs(shift)) * b};
}

/* Writes the pixels under each entry of the kernel for row h, [inputs * TAPS, width * batch]. */
static void gather_windows(REAL *to, const REAL *x, const Stem *s, long h) {
    const long n = s->width * s->batch;
    for (long i = 0; i < s->inputs; i++)
        for (long t = 0; t < TAPS; t++, to += n) {
            const Run w = run_of(s, h, t);
            memset(to, 0, (size_t)w.to * sizeof(REAL));
            memcpy(to + w.to, x + i * s->height * n + w.from, (size_t)w.count * sizeof(REAL));
            memset(to + w.to + w.count, 0, (size_t)(n - w.to - w.count) * sizeof(REAL));
        }
}

/* Adds the gradients of the gathered pixels of row h to gx. */
static void scatter_windows(REAL *gx, const REAL *from, const Stem *s, long h) {
    const long n = s->width * s->batch;
    for (long i = 0; i < s->inputs; i++)
        for (long t = 0; t < TAPS; t++, from += n) {
            const Run w = run_of(s, h, t);
            REAL *to = gx + i * s->height * n + w.from;
            for (long k = 0; k < w.count; k++) to[k] += from[w.to + k];
        }
}

/* With an arena that only counts, forward and backward neither read nor write any map. */
static void forward(const Stem *s, const REAL *x, const REAL *weights, REAL *buffers, REAL *out, REAL *y, REAL *mean, REAL *inverse,
                    Arena arena) {
    const long n = s->width * s->batch, plane = s->height * n, entries = s->inputs * TAPS;
    Moments moments_y = moments(&arena, s->channels);
    REAL *pixels = reals(&arena, entries * n);
    if (only_counts(&arena)) return;
    const StemWeights w = place_stem((REAL *)weights, s);
    for (long h = 0; h < s->height; h++) {
        gather_windows(pixels, x, s, h);
        pointwise(y + h * n, plane, (Matrix){w.convolution, entries, 1}, s->channels, pixels, n, entries, n);
        for (long c = 0; c < s->channels; c++) moments_add(&moments_y, c, y + c * plane + h * n, n, h == 0);
    }
    moments_finish(&moments_y, 0, s->channels, plane, mean, inverse, buffers, s->channels);
    for (long c = 0; c < s->channels; c++) {
        const REAL *from = y + c * plane, factor = inverse[c] * w.scale[c];
        REAL *to = out + c * plane;
        for (long i = 0; i < plane; i++) to[i] = (from[i] - mean[c]) * factor + w.shift[c];
    }
}

static void backward(const Stem *s, const REAL *g, const REAL *x, const REAL *weights, const REAL *y, const REAL *mean,
                     const REAL *inverse, REAL *gx, REAL *g_weights, Arena arena) {
    const long n = s->width * s->batch, plane = s->height * n, entries = s->inputs * TAPS;
    Backward *k = take(&arena, (size_t)s->channels * sizeof(Backward));
    REAL *dy = reals(&arena, s->channels * n), *pixels = reals(&arena, entries * n);
    vec *outer = zeros(&arena, s->channels * entries);
    if (only_counts(&arena)) return;
    const StemWeights w = place_stem((REAL *)weights, s), grads = place_stem(g_weights, s);
    for (long c = 0; c < s->channels; c++) {
        const double sum_g = total(g + c * plane, plane), sum_product = product(g + c * plane, y + c * plane, mean[c], plane);
        k[c] = backward_of(w.scale[c], mean[c], inverse[c], sum_g, sum_product, plane);
        if (g_weights) grads.scale[c] = (REAL)(sum_product * inverse[c]), grads.shift[c] = (REAL)sum_g;
    }
    if (gx) memset(gx, 0, (size_t)(s->inputs * plane) * sizeof(REAL));
    for (long h = 0; h < s->height; h++) {
        for (long c = 0; c < s->channels; c++)
            backward_row(dy + c * n, g + c * plane + h * n, y + c * plane + h * n, k[c], n);
        if (g_weights) {
            gather_windows(pixels, x, s, h);
            outer_add(outer, dy, n, s->channels, pixels, n, entries, n);
        }
        if (gx) {
            pointwise(pixels, n, (Matrix){w.convolution, 1, entries}, entries, dy, n, s->channels, n);
            scatter_windows(gx, pixels, s, h);
        }
    }
    if (g_weights) add_up(grads.convolution, outer, s->channels * entries);
}

/* Returns the number of bytes of scratch memory that stem_forward and stem_backward need. */
size_t stem_scratch_bytes(const Stem *s) {
    size_t bytes = 0;
    const Arena counting = {NULL, 0, &bytes};
    forward(s, NULL, NULL, NULL, NULL, NULL, NULL, NULL, counting);
    backward(s, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, counting);
    return bytes;
}

/* Computes out [channels, height, width, batch] from images x [inputs, height, width, batch].
 *
 * weights, buffers: the stem's slices of the flat vectors. Buffers are moved towards this batch's statistics; NULL for none.
 * y (like out), mean and inverse [channels] are kept for the backward pass. scratch: memory of stem_scratch_bytes bytes. */
void stem_forward(const Stem *s, const REAL *x, const REAL *weights, REAL *buffers, REAL *out, REAL *y, REAL *mean, REAL *inverse,
                  void *scratch) {
    size_t bytes = stem_scratch_bytes(s);
    forward(s, x, weights, buffers, out, y, mean, inverse, (Arena){scratch, 0, &bytes});
}

/* Computes gradients from g, the gradient of out. gx and g_weights are NULL if they are not wanted. The other arguments are those
 * of stem_forward. */
void stem_backward(const Stem *s, const REAL *g, const REAL *x, const REAL *weights, const REAL *y, const REAL *mean,
                   const REAL *inverse, REAL *gx, REAL *g_weights, void *scratch) {
    size_t bytes = stem_scratch_bytes(s);
    backward(s, g, x, weights, y, mean, inverse, gx, g_weights, (Arena){scratch, 0, &bytes});
}
