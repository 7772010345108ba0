/* BatchNorm with the batch's statistics and no affine parameters. Sums are taken about a value near the mean to avoid
 * cancellation. */
#ifndef RAMPART_STATISTICS_H
#define RAMPART_STATISTICS_H

#include "vector.h"

#define EPSILON 1e-5
#define MOMENTUM 0.1 /* of the running statistics, as in nn.BatchNorm2d */

/* Running sums of x - shift and of its square per channel, as vectors of partial sums. */
typedef struct {
    vec *sums;   /* [channels, 2] */
    REAL *shift; /* [channels] */
} Moments;

static Moments moments(Arena *arena, long channels) {
    return (Moments){zeros(arena, 2 * channels), reals(arena, channels)};
}

INLINE double total(const REAL *x, long n) {
    vec partial = {0};
    long i = 0;
    for (; i + LANES <= n; i += LANES) partial += load(x + i);
    double rest = 0;
    for (; i < n; i++) rest += x[i];
    return (double)sum(partial) + rest;
}

/* Adds a row of one channel. `first`: it is the channel's first row, and the sums are taken about its mean. */
INLINE void moments_add(Moments *m, long channel, const REAL *x, long n, int first) {
    if (first) m->shift[channel] = (REAL)(total(x, n) / n);
    const REAL shift = m->shift[channel];
    vec s = m->sums[2 * channel], q = m->sums[2 * channel + 1];
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec d = load(x + i) - shift;
        s += d;
        q += d * d;
    }
    for (; i < n; i++) {
        s[0] += x[i] - shift;
        q[0] += (x[i] - shift) * (x[i] - shift);
    }
    m->sums[2 * channel] = s;
    m->sums[2 * channel + 1] = q;
}

/* Writes the means and 1 / sqrt(variance + epsilon) of `channels` channels with `count` values each, from channel `first` on.
 * running: running means [channels] to update, with their variances running_stride further on; or NULL. */
static void moments_finish(const Moments *m, long first, long channels, long count, REAL *mean, REAL *scale, REAL *running,
                           long running_stride) {
    for (long c = 0; c < channels; c++) {
        const double s = (double)sum(m->sums[2 * (first + c)]) / count, q = (double)sum(m->sums[2 * (first + c) + 1]) / count;
        const double centre = (double)m->shift[first + c] + s;
        double variance = q - s * s;
        /* NaN fails this comparison, so it stays NaN, as it must. */
        if (variance < 0) variance = 0;
        mean[c] = (REAL)centre;
        scale[c] = (REAL)(1 / sqrt(variance + EPSILON));
        if (running) {
            REAL *running_mean = running + c, *running_variance = running + running_stride + c;
            *running_mean += (REAL)MOMENTUM * ((REAL)centre - *running_mean);
            *running_variance += (REAL)MOMENTUM * ((REAL)(variance * count / (count - 1)) - *running_variance);
        }
    }
}

/* Coefficients of BatchNorm's backward pass in one channel: dy = a g + b + c (y - mean). */
typedef struct {
    REAL a, b, c, mean;
} Backward;

/* sum_g: sum of g; sum_product: sum of g (y - mean); factor: the normalised value is multiplied by it. */
INLINE Backward backward_of(REAL factor, REAL mean, REAL scale, double sum_g, double sum_product, long count) {
    const double a = (double)factor * scale;
    return (Backward){(REAL)a, (REAL)(-a * sum_g / count), (REAL)(-a * scale * scale * sum_product / count), mean};
}

INLINE void backward_row(REAL *out, const REAL *g, const REAL *y, Backward k, long n) {
    long i = 0;
    for (; i + LANES <= n; i += LANES) store(out + i, k.a * load(g + i) + k.b + k.c * (load(y + i) - k.mean));
    for (; i < n; i++) out[i] = k.a * g[i] + k.b + k.c * (y[i] - k.mean);
}

/* Returns the sum of g (y - mean). */
INLINE double product(const REAL *g, const REAL *y, REAL mean, long n) {
    vec s0 = {0}, s1 = {0};
    long i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        s0 += load(g + i) * (load(y + i) - mean);
        s1 += load(g + i + LANES) * (load(y + i + LANES) - mean);
    }
    REAL rest = 0;
    for (; i < n; i++) rest += g[i] * (y[i] - mean);
    return (double)sum(s0 + s1) + rest;
}

#endif
