/* Depthwise convolutions of the maps in a ring, row by row: forward, transposed, and the gradient of the kernel. */
#ifndef RAMPART_DEPTHWISE_H
#define RAMPART_DEPTHWISE_H

#include "rows.h"
#include "taps.h"
#include "windows.h"

/* A depthwise kernel: size 3 or 5, dilation 1 or 2, and the stride of its output. */
typedef struct {
    long size, dilation, stride;
} Kernel;

INLINE long reach(Kernel k) { return k.dilation * (k.size / 2); }

/* Returns the taps of output row h of a convolution of the ring's maps, without taps that only read padding columns. */
static Taps taps_forward(const Ring *r, long h, Kernel k) {
    Taps taps = {0};
    for (long i = 0; i < k.size; i++) {
        const long row = k.stride * h + k.dilation * (i - k.size / 2);
        if (row < 0 || row >= r->height) continue;
        for (long j = 0; j < k.size; j++) {
            const long shift = k.dilation * (j - k.size / 2);
            if (shift >= r->width || -shift > r->width - k.stride) continue;
            taps.source[taps.count] = slot(r, row) + column(r, shift);
            taps.index[taps.count++] = (int)(i * k.size + j);
        }
    }
    return taps;
}

/* Taps for row `row`, columns of parity `odd` (0 at stride 1), of the input's gradient; the ring holds the output's gradient. */
static Taps taps_transposed(const Ring *g, long row, long odd, Kernel k) {
    Taps taps = {0};
    for (long i = 0; i < k.size; i++) {
        const long from = row - k.dilation * (i - k.size / 2);
        if (from < 0 || from % k.stride || from / k.stride >= g->height) continue;
        for (long j = 0; j < k.size; j++) {
            const long shift = odd - k.dilation * (j - k.size / 2);
            if (shift % k.stride || labs(shift / k.stride) >= g->width) continue;
            taps.source[taps.count] = slot(g, from / k.stride) + column(g, shift / k.stride);
            taps.index[taps.count++] = (int)(i * k.size + j);
        }
    }
    return taps;
}

/* Returns the window of row h at stride 1; side: 1, or -1 for a transposed convolution. */
static Window window_of(const Ring *r, long h, Kernel k, long side) {
    long columns = k.size;
    if (columns / 2 * k.dilation >= r->width) columns -= 2; /* the outer ones only read padding columns */
    Window w = {.columns = columns, .dilation = k.dilation, .direction = side};
    w.width = r->width, w.batch = r->batch;
    for (long i = 0; i < k.size; i++) {
        const long row = h + side * k.dilation * (i - k.size / 2);
        if (row < 0 || row >= r->height) continue;
        w.source[w.rows] = slot(r, row) + column(r, -(columns / 2) * k.dilation);
        w.entry[w.rows++] = i * k.size + k.size / 2 - side * (columns / 2);
    }
    return w;
}

INLINE int uses_windows(const Ring *r, Kernel k) { return k.stride == 1 && has_windows(r->width, r->batch); }

/* Writes row h [c, n] of the convolution of the ring's maps with kernels [c, size, size]. Channels of out are `stride` apart. */
static void depthwise(REAL *out, long stride, const Ring *r, long h, Kernel k, const REAL *kernels, long n) {
    const long entries = k.size * k.size;
    if (uses_windows(r, k)) {
        const Window w = window_of(r, h, k, 1);
        WindowSum *sum = window_sum(&w, 0);
        for (long c = 0; c < r->channels; c++) sum(out + c * stride, &w, kernels + c * entries, c * r->length);
        return;
    }
    const Taps taps = taps_forward(r, h, k);
    for (long c = 0; c < r->channels; c++) tap_sum(out + c * stride, &taps, c * r->length, kernels + c * entries, n, 0);
}

/* Writes row `row` of the input's gradient, or adds it; the ring holds the output's gradient, n numbers in a row. The result's
 * channels are `stride` apart. At stride 2, its even columns come first. */
static void depthwise_transposed(REAL *into, long stride, const Ring *g, long row, Kernel k, const REAL *kernels, long n,
                                 int accumulate) {
    const long entries = k.size * k.size;
    if (uses_windows(g, k)) {
        const Window w = window_of(g, row, k, -1);
        WindowSum *sum = window_sum(&w, accumulate);
        for (long c = 0; c < g->channels; c++) sum(into + c * stride, &w, kernels + c * entries, c * g->length);
        return;
    }
    for (long odd = 0; odd < k.stride; odd++) {
        const Taps taps = taps_transposed(g, row, odd, k);
        for (long c = 0; c < g->channels; c++)
            tap_sum(into + c * stride + odd * n, &taps, c * g->length, kernels + c * entries, n, accumulate);
    }
}

/* Adds the gradient of the kernels from row h of the output's gradient g [c, n], whose channels are `stride` apart, to sums
 * [c, size, size], vectors of partial sums. The ring holds the input. */
static void depthwise_gradient(vec *sums, const REAL *g, long stride, const Ring *r, long h, Kernel k, long n) {
    const long entries = k.size * k.size;
    if (uses_windows(r, k)) {
        const Window w = window_of(r, h, k, 1);
        WindowDot *dot = window_dot(&w);
        for (long c = 0; c < r->channels; c++) dot(sums + c * entries, g + c * stride, &w, c * r->length);
        return;
    }
    const Taps taps = taps_forward(r, h, k);
    for (long c = 0; c < r->channels; c++) tap_dot(sums + c * entries, g + c * stride, &taps, c * r->length, n);
}

#endif
