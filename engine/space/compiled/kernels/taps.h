/* Depthwise convolutions as sums over taps.
 *
 * With the batch innermost, a row of a map is one run of width * batch numbers, and a tap of a kernel is the same run read
 * at a shifted address. Every depthwise convolution (any kernel, dilation, stride, forward or transposed) is then a list
 * of addresses and weights, and only two loops have to be fast: a weighted sum and a set of dot products.
 */
#ifndef RAMPART_TAPS_H
#define RAMPART_TAPS_H

#include "vector.h"

#define MOST_TAPS 25
#define MOST_OUTPUTS 4
#define MOST_VECTORS 8

/* The taps of one output row: tap t reads source[t] + (channel offset) and has the kernel's entry index[t]. */
typedef struct {
    int count;
    const REAL *source[MOST_TAPS];
    int index[MOST_TAPS];
} Taps;

INLINE void tap_tile(const int outputs, const int vectors, REAL *const *out, const Taps *taps, long channel,
                     const REAL *weights, long i, const int accumulate) {
    /* Compilers keep only arrays of a fixed size in registers. */
    vec total[MOST_OUTPUTS][MOST_VECTORS];
#pragma GCC unroll 8
    for (int e = 0; e < outputs; e++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) total[e][v] = accumulate ? load(out[e] + i + v * LANES) : (vec){0};
    for (int t = 0; t < taps->count; t++) {
        const REAL *from = taps->source[t] + channel + i;
        vec x[MOST_VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) x[v] = load(from + v * LANES);
#pragma GCC unroll 8
        for (int e = 0; e < outputs; e++) {
            const vec w = splat(weights[t * outputs + e]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) total[e][v] += w * x[v];
        }
    }
#pragma GCC unroll 8
    for (int e = 0; e < outputs; e++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) store(out[e] + i + v * LANES, total[e][v]);
}

INLINE void tap_sum_of(const int outputs, const int vectors, REAL *const *out, const Taps *taps, long channel,
                       const REAL *weights, long n, const int accumulate) {
    long i = 0;
    for (; i + vectors * LANES <= n; i += vectors * LANES)
        tap_tile(outputs, vectors, out, taps, channel, weights, i, accumulate);
    for (; i + LANES <= n; i += LANES) tap_tile(outputs, 1, out, taps, channel, weights, i, accumulate);
    for (; i < n; i++)
        for (int e = 0; e < outputs; e++) {
            REAL total = accumulate ? out[e][i] : 0;
            for (int t = 0; t < taps->count; t++) total += weights[t * outputs + e] * taps->source[t][channel + i];
            out[e][i] = total;
        }
}

/* out[e][i] = sum over taps of weights[t][e] * source[t][channel + i] for i < n, for 1 to 4 outputs that read the same maps. */
static void tap_sum(int outputs, REAL *const *out, const Taps *taps, long channel, const REAL *weights, long n) {
    switch (outputs) {
        case 1: tap_sum_of(1, 4, out, taps, channel, weights, n, 0); break;
        case 2: tap_sum_of(2, 4, out, taps, channel, weights, n, 0); break;
        case 3: tap_sum_of(3, 4, out, taps, channel, weights, n, 0); break;
        default: tap_sum_of(4, 4, out, taps, channel, weights, n, 0); break;
    }
}

/* Like tap_sum for a single output, but adds the sum to out. */
static void tap_add(REAL *out, const Taps *taps, long channel, const REAL *weights, long n) {
    tap_sum_of(1, 4, &out, taps, channel, weights, n, 1);
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
