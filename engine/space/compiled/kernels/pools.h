/* The 3x3 max pool and the 3x3 average pool of one channel, forward and backward. Padding is 1 and excluded from the average.
 *
 * A window is reduced in two steps: the three columns of each row first, then the three row results. The first entry wins
 * a tie between rows or columns, so the maximum found is the first one of the window in reading order.
 */
#ifndef RAMPART_POOLS_H
#define RAMPART_POOLS_H

#include "vector.h"

/* A map [height, width * batch]; at stride 2 each row stores its even columns, then its odd columns. */
typedef struct {
    long height, width, batch, stride;
} Map;

INLINE long outputs_in_row(Map map) { return map.width / map.stride * map.batch; }

/* Offset in a row of the input column `j` - 1 to the right of output column 0 (j = 0, 1, 2). */
INLINE long pool_column(Map map, int j) {
    if (map.stride == 1) return (j - 1) * map.batch;
    return (j == 1 ? 0 : j == 0 ? map.width / 2 - 1 : map.width / 2) * map.batch; /* odd column w - 1, even w, odd w */
}

/* Sets shares[i] to 1 / the number of columns of output i's window that are inside the map. */
static void shares_of_columns(REAL *shares, Map map) {
    const long width = map.width / map.stride;
    for (long w = 0; w < width; w++) {
        const int inside = 3 - (w == 0) - (map.stride == 1 && w == width - 1);
        for (long b = 0; b < map.batch; b++) shares[w * map.batch + b] = (REAL)1 / inside;
    }
}

INLINE int rows_inside(Map map, long h) { return 3 - (h == 0) - (map.stride == 1 && h == map.height - 1); }

/* Reduces the window columns first .. last - 1 (of 0 .. 2) for the outputs from .. to - 1. Writes the largest value (best), its
 * column (place) and the sum (all). */
INLINE void across(REAL *best, INTEGER *place, REAL *all, const REAL *row, Map map, const int first, const int last,
                   long from, long to) {
    const REAL *x[3] = {row + pool_column(map, 0), row + pool_column(map, 1), row + pool_column(map, 2)};
    long i = from;
    for (; i + LANES <= to; i += LANES) {
        vec b = load(x[first] + i), s = b;
        mask p = (mask){0} + first;
        for (int j = first + 1; j < last; j++) {
            const vec value = load(x[j] + i);
            const mask larger = value > b;
            b = choose(larger, value, b);
            p = (larger & ((mask){0} + j)) | (~larger & p);
            s += value;
        }
        store(best + i, b);
        store(all + i, s);
        *(mask *)(place + i) = p;
    }
    for (; i < to; i++) {
        best[i] = all[i] = x[first][i];
        place[i] = first;
        for (int j = first + 1; j < last; j++) {
            if (x[j][i] > best[i]) best[i] = x[j][i], place[i] = j;
            all[i] += x[j][i];
        }
    }
}

/* Writes maximum, average and number, each [height / stride, width / stride * batch]. number is the index, in the window, of the
 * first largest entry. */
static void pools_forward(REAL *maximum, REAL *average, INTEGER *number, const REAL *x, Map map, Arena arena) {
    const long n = outputs_in_row(map), b = map.batch, right = map.stride == 1 ? n - b : n;
    REAL *shares = reals(&arena, n), *best[3], *all[3]; /* of the last three rows; row r has index r % 3 */
    INTEGER *place[3];
    for (int i = 0; i < 3; i++) {
        best[i] = reals(&arena, n), all[i] = reals(&arena, n);
        place[i] = take(&arena, (size_t)n * sizeof(INTEGER));
    }
    if (only_counts(&arena)) return;
    shares_of_columns(shares, map);
    long filled = 0;
    for (long h = 0; h < map.height / map.stride; h++) {
        for (; filled < map.height && filled <= map.stride * h + 1; filled++) {
            const REAL *row = x + filled * map.width * b;
            const long at = filled % 3;
            across(best[at], place[at], all[at], row, map, 1, n == b && map.stride == 1 ? 2 : 3, 0, b);
            across(best[at], place[at], all[at], row, map, 0, 3, b, right);
            if (right > 0 && right < n) across(best[at], place[at], all[at], row, map, 0, 2, right, n);
        }
        const long top = map.stride * h - 1, first = top < 0, last = top + 2 < map.height ? 3 : 2;
        const REAL share = (REAL)1 / rows_inside(map, h);
        REAL *to = maximum + h * n, *mean = average + h * n;
        INTEGER *which = number + h * n;
        long i = 0;
        for (; i + LANES <= n; i += LANES) {
            const long at = (top + first) % 3;
            vec largest = load(best[at] + i), s = load(all[at] + i);
            mask p = *(mask *)(place[at] + i) + (INTEGER)(3 * first);
            for (long k = first + 1; k < last; k++) {
                const long row = (top + k) % 3;
                const vec value = load(best[row] + i);
                const mask larger = value > largest;
                largest = choose(larger, value, largest);
                p = (larger & (*(mask *)(place[row] + i) + (INTEGER)(3 * k))) | (~larger & p);
                s += load(all[row] + i);
            }
            store(to + i, largest);
            store(mean + i, s * share * load(shares + i));
            *(mask *)(which + i) = p;
        }
        for (; i < n; i++) {
            const long at = (top + first) % 3;
            REAL s = all[at][i];
            to[i] = best[at][i], which[i] = place[at][i] + (INTEGER)(3 * first);
            for (long k = first + 1; k < last; k++) {
                const long row = (top + k) % 3;
                if (best[row][i] > to[i]) to[i] = best[row][i], which[i] = place[row][i] + (INTEGER)(3 * k);
                s += all[row][i];
            }
            mean[i] = s * share * shares[i];
        }
    }
}

/* Backward pass for one input row. g_column is the gradient that each output column sends to its left, middle and right input
 * column. It includes both pools and is summed over the `count` output rows whose windows contain the input row. */
INLINE void down(REAL *const *g_column, int count, const int *places, const REAL *const *g_maximum,
                 const REAL *const *g_average, const INTEGER *const *number, const REAL *share, const REAL *shares, long n) {
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec v[3] = {{0}, {0}, {0}}, all = {0};
        for (int k = 0; k < count; k++) {
            const mask at = *(const mask *)(number[k] + i);
            const vec g = load(g_maximum[k] + i);
#pragma GCC unroll 4
            for (int j = 0; j < 3; j++) v[j] += where(at == (mask){0} + (places[k] + j), g);
            all += share[k] * load(g_average[k] + i);
        }
        all *= load(shares + i);
#pragma GCC unroll 4
        for (int j = 0; j < 3; j++) store(g_column[j] + i, v[j] + all);
    }
    for (; i < n; i++) {
        REAL v[3] = {0, 0, 0}, all = 0;
        for (int k = 0; k < count; k++) {
            const int j = (int)number[k][i] - places[k];
            if (j >= 0 && j < 3) v[j] += g_maximum[k][i];
            all += share[k] * g_average[k][i];
        }
        for (int j = 0; j < 3; j++) g_column[j][i] = v[j] + all * shares[i];
    }
}

/* Adds the gradient of both pools to gx, which has the layout of the map. */
static void pools_backward(REAL *gx, const REAL *g_maximum, const REAL *g_average, const INTEGER *number, Map map,
                           Arena arena) {
    const long n = outputs_in_row(map), b = map.batch;
    REAL *shares = reals(&arena, n), *g_column[3];
    for (int j = 0; j < 3; j++) g_column[j] = zero_reals(&arena, n + 2 * b);
    if (only_counts(&arena)) return;
    for (int j = 0; j < 3; j++) g_column[j] += b; /* a column of zeros on either side */
    shares_of_columns(shares, map);
    for (long r = 0; r < map.height; r++) {
        const REAL *maximum[3], *average[3];
        const INTEGER *numbers[3];
        REAL share[3];
        int places[3], count = 0;
        for (int i = 0; i < 3; i++) { /* input row r is row i of the window of output row h */
            const long h = (r + 1 - i) / map.stride;
            if (r + 1 - i < 0 || (r + 1 - i) % map.stride || h >= map.height / map.stride) continue;
            maximum[count] = g_maximum + h * n, average[count] = g_average + h * n, numbers[count] = number + h * n;
            share[count] = (REAL)1 / rows_inside(map, h), places[count++] = 3 * i;
        }
        down(g_column, count, places, maximum, average, numbers, share, shares, n);
        for (long odd = 0; odd < map.stride; odd++) {
            REAL *to = gx + (r * map.width + odd * (map.width / 2)) * b;
            for (int j = 0; j < 3; j++) { /* input column 2 c + odd is column j of the window of output column c + shift */
                if ((odd + 1 - j) % map.stride) continue;
                const REAL *from = g_column[j] + (odd + 1 - j) / map.stride * b;
                long i = 0;
                for (; i + LANES <= n; i += LANES) store(to + i, load(to + i) + load(from + i));
                for (; i < n; i++) to[i] += from[i];
            }
        }
    }
}

#endif
