/* Depthwise convolutions of stride 1 that use each loaded register for all outputs that need it.
 *
 * A tile is a few registers of an output row. Neighbouring registers of a tile are `gap` columns apart: 1 if a register holds
 * images of a single column, 2 if it holds the whole batch in two columns. A kernel's row then passes over the tile's input, so
 * that a row of a 5x5 kernel needs 12 to 19 loads for 40 multiplications, where taps.h needs 40.
 */
#ifndef RAMPART_WINDOWS_H
#define RAMPART_WINDOWS_H

#include "vector.h"

#define MOST_SIZE 5

/* One output row's rows of a kernel, without those that are outside of the map. */
typedef struct {
    long rows;
    const REAL *source[MOST_SIZE]; /* input of a row's first entry for output column 0 */
    long entry[MOST_SIZE];         /* index of this entry in the kernel */
    long columns, dilation;        /* entries used in each row, and their distance on the map */
    long direction;                /* from an entry to the next one to the right on the map: 1, or -1 */
    long width, batch;
} Window;

/* Keeps a running address in its register: compilers would otherwise compute all addresses first and spill them. */
#define STEP(pointer, distance) do { pointer += distance; __asm__("" : "+r"(pointer)); } while (0)

/* True if maps of this width and batch can be computed with windows. */
INLINE int has_windows(long width, long batch) {
    return width >= 4 && (batch % LANES == 0 || (2 * batch == LANES && width % 2 == 0));
}

/* The columns between the inputs of a tile. */
INLINE int stride_of(const int dilation, const int gap) { return dilation < gap ? dilation : gap; }

INLINE void sum_tile(const int columns, const int dilation, const int gap, const int vectors, REAL *out, const Window *w,
                     long rows, long direction, long batch, const REAL *kernel, long at, const int accumulate) {
    const int stride = stride_of(dilation, gap);
    vec total[8];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) total[v] = (vec){0};
    for (long r = 0; r < rows; r++) {
        const REAL *entry = kernel + w->entry[r], *from = w->source[r] + at;
        vec weight[MOST_SIZE];
#pragma GCC unroll 8
        for (int j = 0; j < columns; j++) {
            weight[j] = splat(*entry);
            STEP(entry, direction);
        }
#pragma GCC unroll 32
        for (int d = 0; d <= (columns - 1) * dilation + (vectors - 1) * gap; d += stride) {
            vec x = load(from);
            HOLD(x);
            STEP(from, stride * batch);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
#pragma GCC unroll 8
                for (int j = 0; j < columns; j++)
                    if (v * gap + j * dilation == d) total[v] += weight[j] * x;
        }
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
        if (accumulate) total[v] += load(out);
        store(out, total[v]);
        STEP(out, gap * batch);
    }
}

/* Adds the products of g's tile and its inputs to the sums of the kernel's entries. */
INLINE void dot_tile(const int columns, const int dilation, const int gap, const int vectors, vec *sums, const REAL *g,
                     const Window *w, long rows, long batch, long at) {
    const int stride = stride_of(dilation, gap);
    vec left[8];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
        left[v] = load(g);
        HOLD(left[v]);
        STEP(g, gap * batch);
    }
    for (long r = 0; r < rows; r++) {
        const REAL *from = w->source[r] + at;
        vec *sum = sums + w->entry[r], total[MOST_SIZE];
#pragma GCC unroll 8
        for (int j = 0; j < columns; j++) total[j] = sum[j];
#pragma GCC unroll 32
        for (int d = 0; d <= (columns - 1) * dilation + (vectors - 1) * gap; d += stride) {
            vec x = load(from);
            HOLD(x);
            STEP(from, stride * batch);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
#pragma GCC unroll 8
                for (int j = 0; j < columns; j++)
                    if (v * gap + j * dilation == d) total[j] += left[v] * x;
        }
#pragma GCC unroll 8
        for (int j = 0; j < columns; j++) sum[j] = total[j];
    }
}

/* Calls `tile(vectors)` for every tile of a row, with v, the number of its first register, and b, its first image. */
#define FOR_TILES(tile) \
    const long batch = w->batch, vectors = w->width / gap, step = gap * batch; \
    for (long b = 0; b < (gap == 1 ? batch : LANES); b += LANES) { \
        long v = 0; \
        for (; v + 8 <= vectors; v += 8) tile(8); \
        for (; v + 4 <= vectors; v += 4) tile(4); \
        for (; v < vectors; v++) tile(1); \
    }

INLINE void sum_of(const int columns, const int dilation, const int gap, const int accumulate, REAL *out, const Window *w,
                   const REAL *kernel, long channel) {
    const long rows = w->rows, direction = w->direction;
#define TILE(vectors) \
    sum_tile(columns, dilation, gap, vectors, out + b + v * step, w, rows, direction, batch, kernel, channel + b + v * step, accumulate)
    FOR_TILES(TILE)
#undef TILE
}

INLINE void dot_of(const int columns, const int dilation, const int gap, vec *sums, const REAL *g, const Window *w, long channel) {
    const long rows = w->rows;
#define TILE(vectors) \
    dot_tile(columns, dilation, gap, vectors, sums, g + b + v * step, w, rows, batch, channel + b + v * step)
    FOR_TILES(TILE)
#undef TILE
}

/* A function per shape that computes one row of one channel. In a larger function, compilers run out of registers. */
typedef void WindowSum(REAL *out, const Window *w, const REAL *kernel, long channel);
typedef void WindowDot(vec *sums, const REAL *g, const Window *w, long channel);
#define SHAPE(columns, dilation, gap) \
    static __attribute__((noinline)) void sum_##columns##dilation##gap(REAL *out, const Window *w, const REAL *kernel, long channel) { \
        sum_of(columns, dilation, gap, 0, out, w, kernel, channel); \
    } \
    static __attribute__((noinline)) void add_##columns##dilation##gap(REAL *out, const Window *w, const REAL *kernel, long channel) { \
        sum_of(columns, dilation, gap, 1, out, w, kernel, channel); \
    } \
    static __attribute__((noinline)) void dot_##columns##dilation##gap(vec *sums, const REAL *g, const Window *w, long channel) { \
        dot_of(columns, dilation, gap, sums, g, w, channel); \
    }
#define SHAPES(gap) SHAPE(3, 1, gap) SHAPE(3, 2, gap) SHAPE(5, 1, gap) SHAPE(5, 2, gap)
SHAPES(1)
SHAPES(2)

#define TABLE(what, gap) {what##_31##gap, what##_32##gap, what##_51##gap, what##_52##gap}
static WindowSum *const SUMS[2][2][4] = {{TABLE(sum, 1), TABLE(sum, 2)}, {TABLE(add, 1), TABLE(add, 2)}};
static WindowDot *const DOTS[2][4] = {TABLE(dot, 1), TABLE(dot, 2)};

INLINE int shape_of(const Window *w) { return (int)(w->columns - 3 + w->dilation - 1); }
INLINE int gap_of(const Window *w) { return w->batch % LANES != 0; }

/* Returns a function that sets a row `out` of a channel to the sum over the window of the channel's kernel times its input, or
 * adds the sum to it. channel: offset of the channel from the window's sources. */
INLINE WindowSum *window_sum(const Window *w, int accumulate) { return SUMS[accumulate][gap_of(w)][shape_of(w)]; }

/* Returns a function that adds g times the window's input to the sums of the kernel's entries, vectors of partial sums. */
INLINE WindowDot *window_dot(const Window *w) { return DOTS[gap_of(w)][shape_of(w)]; }

#endif
