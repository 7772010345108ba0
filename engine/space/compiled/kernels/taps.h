/* Depthwise convolutions as sums over taps.
 *
 * With the batch innermost, a row of a map is one run of width * batch numbers, and a tap of a kernel is the same run read
 * at a shifted address. Every depthwise convolution (any kernel, dilation, stride, forward or transposed) is then a list
 * of addresses and weights, and only two loops have to be fast: a weighted sum and a set of dot products.
 *
 * windows.h does the same faster for most shapes.
 */
#ifndef RAMPART_TAPS_H
#define RAMPART_TAPS_H

#include "vector.h"

#define MOST_TAPS 25
#define MOST_VECTORS 4

/* The taps of one output row: tap t reads source[t] + (channel offset) and has the kernel's entry index[t]. */
typedef struct {
    int count;
    const REAL *source[MOST_TAPS];
    int index[MOST_TAPS];
} Taps;

INLINE void tap_tile(const int vectors, REAL *out, const Taps *taps, long channel, const REAL *kernel, const int accumulate) {
    vec total[MOST_VECTORS]; /* compilers keep only arrays of a fixed size in registers */
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) total[v] = accumulate ? load(out + v * LANES) : (vec){0};
    for (int t = 0; t < taps->count; t++) {
        const REAL *from = taps->source[t] + channel;
        const vec w = splat(kernel[taps->index[t]]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) total[v] += w * load(from + v * LANES);
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) store(out + v * LANES, total[v]);
}

/* Sets out[i] to the sum over taps of kernel[index[t]] * source[t][channel + i], or adds the sum to it, for i < n. */
INLINE void tap_sum(REAL *out, const Taps *taps, long channel, const REAL *kernel, long n, const int accumulate) {
    long i = 0;
    for (; i + MOST_VECTORS * LANES <= n; i += MOST_VECTORS * LANES)
        tap_tile(MOST_VECTORS, out + i, taps, channel + i, kernel, accumulate);
    for (; i + LANES <= n; i += LANES) tap_tile(1, out + i, taps, channel + i, kernel, accumulate);
    for (; i < n; i++) {
        REAL total = accumulate ? out[i] : 0;
        for (int t = 0; t < taps->count; t++) total += kernel[taps->index[t]] * taps->source[t][channel + i];
        out[i] = total;
    }
}

INLINE void tap_dot_of(const int count, vec *out, const REAL *g, const Taps *taps, int first, long channel, long n) {
    vec total[5];
#pragma GCC unroll 8
    for (int t = 0; t < count; t++) total[t] = out[taps->index[first + t]];
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec x = load(g + i);
#pragma GCC unroll 8
        for (int t = 0; t < count; t++) total[t] += x * load(taps->source[first + t] + channel + i);
    }
#pragma GCC unroll 8
    for (int t = 0; t < count; t++) {
        REAL rest = 0;
        for (long j = i; j < n; j++) rest += g[j] * taps->source[first + t][channel + j];
        out[taps->index[first + t]] = total[t] + (vec){rest};
    }
}

/* out[index[t]] += g[i] * source[t][channel + i] over i < n: the kernel's gradient, as vectors of partial sums. */
static void tap_dot(vec *out, const REAL *g, const Taps *taps, long channel, long n) {
    int t = 0;
    for (; t + 5 <= taps->count; t += 5) tap_dot_of(5, out, g, taps, t, channel, n);
    for (; t + 3 <= taps->count; t += 3) tap_dot_of(3, out, g, taps, t, channel, n);
    for (; t < taps->count; t++) tap_dot_of(1, out, g, taps, t, channel, n);
}

#endif
