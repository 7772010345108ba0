/* 1x1 convolutions of one row of maps: small matrix products whose operands fit into the L1 or L2 cache. */
#ifndef RAMPART_POINTWISE_H
#define RAMPART_POINTWISE_H

#include "vector.h"

#define MOST_ROWS 12

INLINE void pointwise_tile(const int rows, const int vectors, REAL *out, long out_stride, Matrix a, const REAL *x, long x_stride,
                           long inputs, const int accumulate) {
    vec total[MOST_ROWS][2]; /* compilers keep only arrays of a fixed size in registers */
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) total[r][v] = accumulate ? load(out + r * out_stride + v * LANES) : (vec){0};
    for (long k = 0; k < inputs; k++) {
        vec in[2];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) in[v] = load(x + k * x_stride + v * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            const vec w = splat(a.data[r * a.row + k * a.column]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) total[r][v] += w * in[v];
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) store(out + r * out_stride + v * LANES, total[r][v]);
}

INLINE void pointwise_rows(const int rows, REAL *out, long out_stride, Matrix a, const REAL *x, long x_stride, long inputs, long n,
                           const int accumulate) {
    long i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) pointwise_tile(rows, 2, out + i, out_stride, a, x + i, x_stride, inputs, accumulate);
    for (; i + LANES <= n; i += LANES) pointwise_tile(rows, 1, out + i, out_stride, a, x + i, x_stride, inputs, accumulate);
    for (; i < n; i++)
        for (int r = 0; r < rows; r++) {
            REAL total = accumulate ? out[r * out_stride + i] : 0;
            for (long k = 0; k < inputs; k++) total += a.data[r * a.row + k * a.column] * x[k * x_stride + i];
            out[r * out_stride + i] = total;
        }
}

/* Sets out [outputs, n] to the product of a [outputs, inputs] and x [inputs, n], or adds the product to out if `accumulate`.
 * out_stride and x_stride are the distances between rows. */
INLINE void pointwise_of(REAL *out, long out_stride, Matrix a, long outputs, const REAL *x, long x_stride, long inputs, long n,
                         const int accumulate) {
    long o = 0;
    for (; o + 12 <= outputs; o += 12, out += 12 * out_stride, a.data += 12 * a.row)
        pointwise_rows(12, out, out_stride, a, x, x_stride, inputs, n, accumulate);
    for (; o + 8 <= outputs; o += 8, out += 8 * out_stride, a.data += 8 * a.row)
        pointwise_rows(8, out, out_stride, a, x, x_stride, inputs, n, accumulate);
    for (; o + 4 <= outputs; o += 4, out += 4 * out_stride, a.data += 4 * a.row)
        pointwise_rows(4, out, out_stride, a, x, x_stride, inputs, n, accumulate);
    for (; o < outputs; o++, out += out_stride, a.data += a.row)
        pointwise_rows(1, out, out_stride, a, x, x_stride, inputs, n, accumulate);
}

static void pointwise(REAL *out, long out_stride, Matrix a, long outputs, const REAL *x, long x_stride, long inputs, long n) {
    pointwise_of(out, out_stride, a, outputs, x, x_stride, inputs, n, 0);
}

static void pointwise_add(REAL *out, long out_stride, Matrix a, long outputs, const REAL *x, long x_stride, long inputs, long n) {
    pointwise_of(out, out_stride, a, outputs, x, x_stride, inputs, n, 1);
}

INLINE void outer_tile(const int rows, const int columns, vec *total, long total_stride, const REAL *g, long g_stride,
                       const REAL *x, long x_stride, long n) {
    vec sums[4][4];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int k = 0; k < columns; k++) sums[r][k] = total[r * total_stride + k];
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec in[4];
#pragma GCC unroll 8
        for (int k = 0; k < columns; k++) {
            in[k] = load(x + k * x_stride + i);
            HOLD(in[k]);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            vec left = load(g + r * g_stride + i);
            HOLD(left);
#pragma GCC unroll 8
            for (int k = 0; k < columns; k++) sums[r][k] += left * in[k];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int k = 0; k < columns; k++) {
            REAL rest = 0;
            for (long j = i; j < n; j++) rest += g[r * g_stride + j] * x[k * x_stride + j];
            total[r * total_stride + k] = sums[r][k] + (vec){rest};
        }
}

/* Adds the product of g [outputs, n] and x [inputs, n]^T to total [outputs, inputs], whose entries are vectors of partial sums.
 * `add_up` adds up each vector once, after all rows, because adding up the elements of a register is expensive. */
static void outer_add(vec *total, const REAL *g, long g_stride, long outputs, const REAL *x, long x_stride, long inputs, long n) {
    for (long o = 0; o < outputs;) {
        const int rows = o + 4 <= outputs ? 4 : 1;
        for (long k = 0; k < inputs;) {
            const int columns = k + 4 <= inputs ? 4 : 1;
            vec *at = total + o * inputs + k;
            const REAL *left = g + o * g_stride, *right = x + k * x_stride;
            if (rows == 4 && columns == 4) outer_tile(4, 4, at, inputs, left, g_stride, right, x_stride, n);
            else if (rows == 4) outer_tile(4, 1, at, inputs, left, g_stride, right, x_stride, n);
            else if (columns == 4) outer_tile(1, 4, at, inputs, left, g_stride, right, x_stride, n);
            else outer_tile(1, 1, at, inputs, left, g_stride, right, x_stride, n);
            k += columns;
        }
        o += rows;
    }
}

#endif
