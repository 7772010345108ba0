/* A ring buffer of zero-padded rows of maps.
 *
 * States are processed row by row so that the working set stays in the L2 cache. A ring holds the last few rows of all channels,
 * or all rows of a state that several edges read. A convolution of stride 2 reads even and odd columns separately, so its rows are stored in two parts.
 */
#ifndef RAMPART_ROWS_H
#define RAMPART_ROWS_H

#include "vector.h"

typedef struct {
    long channels, height, width, batch;
    long split; /* 1, or 2 for rows whose even and odd columns are stored separately */
    long pad;   /* columns of zeros on either side of a part */
    long part;  /* columns of a part, zeros included */
    long length; /* numbers in a row */
    long slots; /* rows kept */
    long filled; /* rows 0 .. filled - 1 have been written */
    REAL *data; /* [slots, channels, length] */
} Ring;

/* Creates a ring for maps [channels, height, width * batch]; a convolution reads `reach` rows up and down. */
static Ring ring(Arena *arena, long channels, long height, long width, long batch, long split, long pad, long reach) {
    Ring r = {channels, height, width, batch, split, pad, width / split + 2 * pad, 0, 2 * reach + split, 0, NULL};
    if (r.slots > height) r.slots = height;
    r.length = r.split * r.part * batch;
    r.data = reals(arena, r.slots * channels * r.length);
    if (only_counts(arena)) return r;
    const size_t side = (size_t)(pad * batch) * sizeof(REAL);
    for (long i = 0; i < r.slots * channels * split; i++) {
        REAL *at = r.data + i * r.part * batch;
        memset(at, 0, side);
        memset(at + (r.part - pad) * batch, 0, side);
    }
    return r;
}

INLINE REAL *slot(const Ring *r, long row) { return r->data + row % r->slots * r->channels * r->length; }

/* Offset in a row of the column `shift` to the right of output column 0 (shift may be negative). */
INLINE long column(const Ring *r, long shift) {
    if (r->split == 1) return (r->pad + shift) * r->batch;
    const long odd = shift & 1;
    return (odd * r->part + r->pad + (shift - odd) / 2) * r->batch;
}

/* Appends max(0, (x - mean) * scale) of the next row of maps [channels, height * width * batch]; NaN stays NaN.
 * If mean is NULL, appends max(0, x). */
static void fill_positive(Ring *r, const REAL *maps, const REAL *mean, const REAL *scale) {
    const long row = r->filled++, n = r->width * r->batch, plane = r->height * n;
    for (long c = 0; c < r->channels; c++) {
        const REAL *from = maps + c * plane + row * n;
        REAL *to = slot(r, row) + c * r->length;
        const REAL m = mean ? mean[c] : 0, s = mean ? scale[c] : 1;
        if (r->split == 1) {
            long i = 0;
            to += column(r, 0);
            for (; i + LANES <= n; i += LANES) store(to + i, positive((load(from + i) - m) * s));
            for (; i < n; i++) to[i] = (from[i] - m) * s <= 0 ? 0 : (from[i] - m) * s;
        } else {
            for (long w = 0; w < r->width; w++) {
                REAL *at = to + column(r, w & 1) + w / 2 * r->batch;
                for (long b = 0; b < r->batch; b++) {
                    const REAL x = (from[w * r->batch + b] - m) * s;
                    at[b] = x <= 0 ? 0 : x;
                }
            }
        }
    }
}

#endif
