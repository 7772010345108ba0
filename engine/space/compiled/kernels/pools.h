/* Both 3x3 pools of one channel, forward and backward; padding 1, the average over what lies inside. */
#ifndef RAMPART_POOLS_H
#define RAMPART_POOLS_H

#include "vector.h"

/* A map [height, width * batch]; at stride 2 its rows lie as even columns, then odd columns. */
typedef struct {
    long height, width, batch, stride;
} Map;

/* The window's entries that lie inside, for the output columns first .. last - 1 of output row h. */
typedef struct {
    long first, last;
    int count;
    long offset[9]; /* into the map, of output column 0 */
    int number[9];  /* place in the window, in reading order */
} Window;

static Window window(Map map, long h, long first, long last) {
    Window found = {first, last, 0, {0}, {0}};
    for (int i = 0; i < 3; i++) {
        const long row = map.stride * h + i - 1;
        if (row < 0 || row >= map.height) continue;
        for (int j = 0; j < 3; j++) {
            if (map.stride * first + j - 1 < 0 || map.stride * (last - 1) + j - 1 >= map.width) continue;
            long at = row * map.width + j - 1;
            /* Stride 2: column 2 w - 1 is odd column w - 1, 2 w is even column w, 2 w + 1 is odd column w. */
            if (map.stride == 2) at = row * map.width + (j == 1 ? 0 : map.width / 2 + (j == 0 ? -1 : 0));
            found.offset[found.count] = at * map.batch;
            found.number[found.count++] = i * 3 + j;
        }
    }
    return found;
}

/* Left border, inside and right border of an output row; returns how many of them there are. */
static int windows(Window *found, Map map, long h) {
    const long width = map.width / map.stride, right = map.stride == 1 && width > 1 ? width - 1 : width;
    int count = 0;
    found[count++] = window(map, h, 0, 1);
    if (right > 1) found[count++] = window(map, h, 1, right);
    if (width > right) found[count++] = window(map, h, right, width);
    return count;
}

/* maximum, average, number [height / stride, width / stride * batch]: number is the place of the first largest entry. */
static void pools_forward(REAL *maximum, REAL *average, INTEGER *number, const REAL *x, Map map) {
    const long n = map.width / map.stride * map.batch;
    for (long h = 0; h < map.height / map.stride; h++) {
        Window parts[3];
        const int count = windows(parts, map, h);
        for (int p = 0; p < count; p++) {
            const Window *w = &parts[p];
            const REAL share = (REAL)1 / w->count;
            long i = w->first * map.batch;
            const long end = w->last * map.batch;
            for (; i + LANES <= end; i += LANES) {
                vec best = load(x + w->offset[0] + i), all = best;
                mask at = (mask){0} + w->number[0];
                for (int t = 1; t < w->count; t++) {
                    const vec value = load(x + w->offset[t] + i);
                    const mask larger = value > best;
                    best = choose(larger, value, best);
                    at = (larger & ((mask){0} + w->number[t])) | (~larger & at);
                    all += value;
                }
                store(maximum + h * n + i, best);
                store(average + h * n + i, all * share);
                *(mask *)(number + h * n + i) = at;
            }
            for (; i < end; i++) {
                REAL best = x[w->offset[0] + i], all = best;
                int at = w->number[0];
                for (int t = 1; t < w->count; t++) {
                    const REAL value = x[w->offset[t] + i];
                    if (value > best) best = value, at = w->number[t];
                    all += value;
                }
                maximum[h * n + i] = best;
                average[h * n + i] = all * share;
                number[h * n + i] = at;
            }
        }
    }
}

/* Adds the pools' part to the map's gradient gx, laid out as the map. */
static void pools_backward(REAL *gx, const REAL *of_maximum, const REAL *of_average, const INTEGER *number, Map map) {
    const long n = map.width / map.stride * map.batch;
    for (long h = 0; h < map.height / map.stride; h++) {
        Window parts[3];
        const int count = windows(parts, map, h);
        for (int p = 0; p < count; p++) {
            const Window *w = &parts[p];
            const REAL share = (REAL)1 / w->count;
            const long end = w->last * map.batch;
            for (int t = 0; t < w->count; t++) {
                REAL *to = gx + w->offset[t];
                const mask wanted = (mask){0} + w->number[t];
                long i = w->first * map.batch;
                for (; i + LANES <= end; i += LANES) {
                    const vec largest = where(*(const mask *)(number + h * n + i) == wanted, load(of_maximum + h * n + i));
                    store(to + i, load(to + i) + share * load(of_average + h * n + i) + largest);
                }
                for (; i < end; i++)
                    to[i] += share * of_average[h * n + i] + (number[h * n + i] == w->number[t] ? of_maximum[h * n + i] : 0);
            }
        }
    }
}

#endif
