/* The arithmetic of `spectra.c` for one instruction set: included once for each, with NAME, LANES and TILE set.
 *
 * Pixels are worked on in blocks of BLOCK side by side: an array x[rows][BLOCK] is a matrix of one column per pixel.
 * Nothing of a pixel's result depends on the pixels beside it.
 */

typedef float NAME(lanes) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* y (rows, BLOCK) = w (rows, inner) x (inner, BLOCK), or y += ... : four rows and TILE vectors of pixels in registers. */
static void NAME(product)(int rows, int inner, const float *w, const float *x, float *y, int add)
{
    typedef NAME(lanes) vec;
    for (int r = 0; r < rows; r += 4) {
        const int some = rows - r < 4 ? rows - r : 4;
        const float *w0 = w + (long)r * inner;
        const float *w1 = w0 + (some > 1 ? inner : 0), *w2 = w0 + (some > 2 ? 2 * inner : 0);
        const float *w3 = w0 + (some > 3 ? 3 * inner : 0);
        for (int p = 0; p < BLOCK; p += TILE * LANES) {
            vec a[4][TILE];
            for (int q = 0; q < 4; q++)
                for (int t = 0; t < TILE; t++)
                    a[q][t] = add && q < some ? *(const vec *)(y + (long)(r + q) * BLOCK + p + t * LANES) : (vec){0};
            for (int i = 0; i < inner; i++) {
                const float *row = x + (long)i * BLOCK + p;
                for (int t = 0; t < TILE; t++) {
                    const vec v = *(const vec *)(row + t * LANES);
                    a[0][t] += w0[i] * v;
                    a[1][t] += w1[i] * v;
                    a[2][t] += w2[i] * v;
                    a[3][t] += w3[i] * v;
                }
            }
            for (int q = 0; q < some; q++)
                for (int t = 0; t < TILE; t++) *(vec *)(y + (long)(r + q) * BLOCK + p + t * LANES) = a[q][t];
        }
    }
}

/* exp(x) for -60 <= x <= 0, relative error below 2e-7: x = n ln 2 + r, a polynomial of r (Cephes, expf) times 2^n. */
static inline void NAME(exponential)(float *x)
{
    for (int p = 0; p < BLOCK; p++) {
        const float v = x[p];
        const float n = (v * 1.44269504088896341f + 12582912.0f) - 12582912.0f; /* to the nearest integer */
        const float r = (v - n * 0.693359375f) + n * 2.12194440e-4f;
        float e = 1.9875691500e-4f;
        e = e * r + 1.3981999507e-3f;
        e = e * r + 8.3334519073e-3f;
        e = e * r + 4.1665795894e-2f;
        e = e * r + 1.6666665459e-1f;
        e = e * r + 5.0000001201e-1f;
        e = e * r * r + r + 1.0f;
        const int bits = ((int)n + 127) << 23;
        float power;
        __builtin_memcpy(&power, &bits, sizeof power);
        x[p] = e * power;
    }
}

/* Copy n values of one row to a block; what is missing of the block is zero. */
static inline void NAME(take)(float *block, const float *row, int n)
{
    for (int p = 0; p < n; p++) block[p] = row[p];
    for (int p = n; p < BLOCK; p++) block[p] = 0.0f;
}

/* Round to the nearest even integer inside +-32767 and store n of them. */
static inline void NAME(store)(short *out, const float *value, int n)
{
    short whole[BLOCK];
    for (int p = 0; p < BLOCK; p++) {
        float v = value[p];
        v = v == v ? v : 0.0f; /* a nan has no integer; whoever calls marks such pixels */
        v = v > 32767.0f ? 32767.0f : v;
        v = v < -32767.0f ? -32767.0f : v;
        whole[p] = (short)(int)((v + 12582912.0f) - 12582912.0f);
    }
    for (int p = 0; p < n; p++) out[p] = whole[p];
}

/* Class probabilities w (J, BLOCK) and distance from everything the prior holds, of scaled bands z (bands + 1, BLOCK). */
static void NAME(classify)(const struct unfolding *m, const float *z, float *w, float *nearest)
{
    const int likelihood = m->bands - 1, columns = m->bands;
    float most[BLOCK], sum[BLOCK];
    for (int p = 0; p < BLOCK; p++) most[p] = -INFINITY, nearest[p] = INFINITY, sum[p] = 0.0f;
    for (int j = 0; j < m->classes; j++) {
        float distance[BLOCK] = {0};
        const float *L = m->whitener + (long)j * likelihood * columns;
        for (int a = 0; a < likelihood; a++, L += columns) {
            float white[BLOCK];
            for (int p = 0; p < BLOCK; p++) white[p] = L[likelihood];
            for (int b = 0; b <= a; b++) { /* L is lower triangular; z begins with the band that takes no part */
                const float weight = L[b], *row = z + (long)(b + 1) * BLOCK;
                for (int p = 0; p < BLOCK; p++) white[p] += weight * row[p];
            }
            for (int p = 0; p < BLOCK; p++) distance[p] += white[p] * white[p];
        }
        float *share = w + (long)j * BLOCK;
        for (int p = 0; p < BLOCK; p++) {
            share[p] = m->log_normaliser[j] - 0.5f * distance[p];
            most[p] = share[p] > most[p] ? share[p] : most[p];
            const float widened = distance[p] + m->class_width[j];
            nearest[p] = widened >= nearest[p] ? nearest[p] : widened; /* so written, a nan stays one */
        }
    }
    for (int j = 0; j < m->classes; j++) {
        float *share = w + (long)j * BLOCK;
        for (int p = 0; p < BLOCK; p++) {
            const float off = share[p] - most[p];
            share[p] = off < -60.0f ? -60.0f : off;
        }
        NAME(exponential)(share);
        for (int p = 0; p < BLOCK; p++) sum[p] += share[p];
    }
    for (int j = 0; j < m->classes; j++) {
        float *share = w + (long)j * BLOCK;
        for (int p = 0; p < BLOCK; p++) {
            const float part = share[p] / sum[p];
            share[p] = part <= NEGLIGIBLE ? 0.0f : part;
        }
    }
}

/* Whether a class takes part in any pixel of the block. */
static inline int NAME(taken)(const float *share)
{
    float most = 0.0f;
    for (int p = 0; p < BLOCK; p++) most = share[p] <= most ? most : share[p];
    return !(most <= 0.0f);
}

static void NAME(unfold)(const struct unfolding *m, const struct unfolded *out, const float *y, long pixels, float *scratch)
{
    const int bands = m->bands, k = m->k, width = bands + 1 + k, hidden = m->hidden;
    float *state = scratch;                                 /* (bands + 1 + k, BLOCK): scaled bands, ones, iterate */
    float *v = state + (long)(bands + 1) * BLOCK;           /* the iterate in it */
    float *w = state + (long)width * BLOCK;                 /* (J, BLOCK) */
    float *weighted = w + (long)m->classes * BLOCK;         /* (bands + 1, BLOCK) */
    float *first = weighted + (long)(bands + 1) * BLOCK;    /* (k, BLOCK) v_0 */
    float *after = first + (long)k * BLOCK;                 /* (k, BLOCK) */
    float *one = after + (long)k * BLOCK;                   /* (hidden, BLOCK) */
    float *two = one + (long)hidden * BLOCK;                /* (hidden, BLOCK) */
    float *learned = two + (long)hidden * BLOCK;            /* (stages k, BLOCK) */
    for (long start = 0; start < pixels; start += BLOCK) {
        const int n = pixels - start < BLOCK ? (int)(pixels - start) : BLOCK;
        float s[BLOCK], nearest[BLOCK];
        for (int p = 0; p < BLOCK; p++) s[p] = 0.0f, state[(long)bands * BLOCK + p] = 1.0f;
        for (int b = 0; b < bands; b++) {
            float *row = state + (long)b * BLOCK;
            NAME(take)(row, y + b * pixels + start, n);
            if (b) for (int p = 0; p < BLOCK; p++) s[p] += row[p] * row[p];
        }
        for (int p = 0; p < BLOCK; p++) s[p] = __builtin_sqrtf(s[p] / (bands - 1) + m->floor2);
        for (int b = 0; b < bands; b++)
            for (int p = 0; p < BLOCK; p++) state[(long)b * BLOCK + p] /= s[p];
        NAME(classify)(m, state, w, nearest);

        for (long i = 0; i < (long)k * BLOCK; i++) first[i] = 0.0f;
        for (int j = 0; j < m->classes; j++) {
            const float *share = w + (long)j * BLOCK;
            if (!NAME(taken)(share)) continue;
            for (int b = 0; b <= bands; b++)
                for (int p = 0; p < BLOCK; p++) weighted[(long)b * BLOCK + p] = share[p] * state[(long)b * BLOCK + p];
            NAME(product)(k, bands + 1, m->gain + (long)j * k * (bands + 1), weighted, first, 1);
        }
        for (long i = 0; i < (long)k * BLOCK; i++) v[i] = first[i];

        for (int t = 0; t < m->stages; t++) {
            float *f = learned + (long)t * k * BLOCK, moved[BLOCK] = {0};
            NAME(product)(hidden, width, m->inner + (long)t * hidden * width, state, one, 0);
            for (long i = 0; i < (long)hidden * BLOCK; i++) one[i] = one[i] > 0.0f ? one[i] : 0.0f;
            NAME(product)(hidden, hidden, m->middle + (long)t * hidden * hidden, one, two, 0);
            for (int h = 0; h < hidden; h++) {
                const float bias = m->middle_bias[t * hidden + h];
                for (int p = 0; p < BLOCK; p++) {
                    const float a = two[(long)h * BLOCK + p] + bias;
                    two[(long)h * BLOCK + p] = a > 0.0f ? a : 0.0f;
                }
            }
            NAME(product)(k, hidden, m->outer + (long)t * k * hidden, two, f, 0);
            for (int c = 0; c < k; c++) {
                const float bias = m->outer_bias[t * k + c];
                for (int p = 0; p < BLOCK; p++) {
                    const long i = (long)c * BLOCK + p;
                    f[i] += bias;
                    after[i] = v[i]; /* v_{t-1}, kept for the change */
                    v[i] += f[i];
                }
            }
            NAME(product)(k, width, m->data_step + (long)t * k * width, state, one, 0); /* v_t; k <= hidden is checked */
            for (int c = 0; c < k; c++)
                for (int p = 0; p < BLOCK; p++) {
                    const long i = (long)c * BLOCK + p;
                    const float d = one[i] - after[i];
                    moved[p] += d * d;
                    v[i] = one[i];
                }
            float *changes = out->changes + t * pixels + start;
            for (int p = 0; p < n; p++) changes[p] = __builtin_sqrtf(moved[p]) * s[p] * m->per_channel;
        }
        if (m->stages) NAME(product)(k, m->stages * k, m->passing, learned, after, 0);
        for (int c = 0; c < k; c++) {
            float *coefficient = out->coefficients + c * pixels + start, *rest = out->learned + c * pixels + start;
            for (int p = 0; p < n; p++) {
                const long i = (long)c * BLOCK + p;
                coefficient[p] = (first[i] + m->relaxation * (v[i] - first[i])) * s[p];
                rest[p] = m->stages ? after[i] * s[p] : 0.0f;
            }
        }
        for (int j = 0; j < m->classes; j++)
            for (int p = 0; p < n; p++) out->weights[j * pixels + start + p] = w[(long)j * BLOCK + p];
        for (int p = 0; p < n; p++) out->scale[start + p] = s[p], out->distance[start + p] = nearest[p];
    }
}

static void NAME(finish)(const struct finishing *m, const float *coefficients, const float *taken_back, long pixels,
                         float *stored, float *simulated, float *scratch)
{
    const int k = m->k, judged = m->judged, bands = m->bands;
    float *c = scratch, *e = c + (long)k * BLOCK, *seen = e + (long)judged * BLOCK;
    for (long start = 0; start < pixels; start += BLOCK) {
        const int n = pixels - start < BLOCK ? (int)(pixels - start) : BLOCK;
        for (int r = 0; r < k; r++) NAME(take)(c + (long)r * BLOCK, coefficients + r * pixels + start, n);
        for (int r = 0; r < judged; r++) NAME(take)(e + (long)r * BLOCK, taken_back + r * pixels + start, n);
        NAME(product)(k, judged, m->correction, e, c, 1);
        for (int r = 0; r < k; r++) {
            float *row = c + (long)r * BLOCK;
            const float step = m->steps[r];
            for (int p = 0; p < BLOCK; p++) {
                float v = (row[p] / step + 12582912.0f) - 12582912.0f;
                v = v > 32767.0f ? 32767.0f : v;
                row[p] = v < -32767.0f ? -32767.0f : v;
            }
            for (int p = 0; p < n; p++) stored[r * pixels + start + p] = row[p];
            for (int p = 0; p < BLOCK; p++) row[p] *= step;
        }
        NAME(product)(bands, k, m->observation, c, seen, 0);
        for (int r = 0; r < bands; r++)
            for (int p = 0; p < n; p++) simulated[r * pixels + start + p] = seen[(long)r * BLOCK + p];
    }
}

static void NAME(expand)(const struct expansion *m, const float *stored, const struct frame *at, short *out, float *scratch)
{
    const int k = m->k, channels = m->channels;
    const long pixels = (long)at->height * at->width;
    float *c = scratch, *values = c + (long)k * BLOCK;
    for (int row = 0; row < at->height; row++)
        for (int column = 0; column < at->width; column += BLOCK) {
            const int n = at->width - column < BLOCK ? at->width - column : BLOCK;
            const float *from = stored + (at->top + row) * at->stride + at->left + column;
            short *to = out + (long)row * at->width + column;
            for (int r = 0; r < k; r++) {
                NAME(take)(c + (long)r * BLOCK, from + r * at->plane, n);
                for (int p = 0; p < BLOCK; p++) c[(long)r * BLOCK + p] *= m->steps[r];
            }
            NAME(product)(channels, k, m->components, c, values, 0);
            for (int r = 0; r < channels; r++) NAME(store)(to + r * pixels, values + (long)r * BLOCK, n);
        }
}

static void NAME(explain)(const struct explaining *m, const struct columns *in, const struct frame *at, short *out, float *scratch)
{
    const int bands = m->bands, k = m->k, J = m->classes, G = m->groups;
    const long pixels = (long)at->height * at->width;
    float *z = scratch;                                  /* (bands + 1, BLOCK) */
    float *w = z + (long)(bands + 1) * BLOCK;            /* (J, BLOCK) */
    float *learned = w + (long)J * BLOCK;                /* (k, BLOCK) */
    float *parts = learned + (long)k * BLOCK;            /* (bands G, BLOCK) */
    float *mean = parts + (long)bands * G * BLOCK;       /* (G, BLOCK), one class */
    float *centre = mean + (long)G * BLOCK;              /* (G, BLOCK) */
    float *variance = centre + (long)G * BLOCK;          /* (G, BLOCK) */
    float *rest = variance + (long)G * BLOCK;            /* (G, BLOCK) */
    float *within = rest + (long)G * BLOCK;              /* (G, BLOCK) */
    float *rows = within + (long)G * BLOCK;              /* (layers, BLOCK) physical values */
    for (int row = 0; row < at->height; row++)
        for (int column = 0; column < at->width; column += BLOCK) {
            const int n = at->width - column < BLOCK ? at->width - column : BLOCK;
            const long here = (at->top + row) * at->stride + at->left + column;
            float s[BLOCK], d20[BLOCK], d60[BLOCK], sum[BLOCK], chi2[BLOCK] = {0}, line[BLOCK];
            NAME(take)(s, in->scale + here, n);
            for (int p = n; p < BLOCK; p++) s[p] = 1.0f;
            NAME(take)(d20, in->detail20 + here, n);
            NAME(take)(d60, in->detail60 + here, n);
            for (int j = 0; j < J; j++) NAME(take)(w + (long)j * BLOCK, in->weights + j * at->plane + here, n);
            for (int c = 0; c < k; c++) NAME(take)(learned + (long)c * BLOCK, in->learned + c * at->plane + here, n);
            for (int b = 0; b < bands; b++) {
                float *zb = z + (long)b * BLOCK;
                NAME(take)(zb, in->bands + b * at->plane + here, n);
                if (b) {
                    NAME(take)(line, in->simulated + b * at->plane + here, n);
                    for (int p = 0; p < BLOCK; p++) {
                        const float off = zb[p] - line[p];
                        chi2[p] += off * off / (m->noise_absolute[b] + m->noise_relative[b] * zb[p] * zb[p]);
                    }
                }
                for (int p = 0; p < BLOCK; p++) zb[p] /= s[p];
            }
            for (int p = 0; p < BLOCK; p++) z[(long)bands * BLOCK + p] = 1.0f;

            for (long i = 0; i < (long)bands * G * BLOCK; i++) parts[i] = 0.0f;
            for (long i = 0; i < (long)G * BLOCK; i++) centre[i] = variance[i] = 0.0f;
            for (int j = 0; j < J; j++) {
                const float *share = w + (long)j * BLOCK;
                if (!NAME(taken)(share)) continue;
                NAME(product)(G, bands + 1, m->group_gain + (long)j * G * (bands + 1), z, mean, 0);
                for (int g = 0; g < G; g++)
                    for (int p = 0; p < BLOCK; p++) {
                        const long i = (long)g * BLOCK + p;
                        centre[i] += share[p] * mean[i];
                        variance[i] += share[p] * mean[i] * mean[i];
                    }
                for (int b = 0; b < bands; b++) {
                    const float middle = m->band_mean[j * bands + b];
                    const float *gain = m->attribution + ((long)j * bands + b) * G;
                    float *part = parts + (long)b * G * BLOCK;
                    for (int p = 0; p < BLOCK; p++) line[p] = share[p] * (z[(long)b * BLOCK + p] - middle);
                    for (int g = 0; g < G; g++)
                        for (int p = 0; p < BLOCK; p++) part[(long)g * BLOCK + p] += gain[g] * line[p];
                }
            }

            float *to = rows;
            NAME(product)(G, J, m->within, w, within, 0);
            for (int p = 0; p < BLOCK; p++) line[p] = 0.0f;
            for (int g = 0; g < G; g++, to += BLOCK)
                for (int p = 0; p < BLOCK; p++) {
                    const long i = (long)g * BLOCK + p;
                    float between = variance[i] - centre[i] * centre[i];
                    between = between > 0.0f ? between : 0.0f;
                    const float spectral = (between + within[i]) * s[p] * s[p] * m->alpha2[g];
                    const float total = spectral + m->beta20[g] * d20[p] * d20[p] + m->beta60[g] * d60[p] * d60[p];
                    line[p] += __builtin_sqrtf(total / (spectral > 1e-12f ? spectral : 1e-12f));
                    to[p] = __builtin_sqrtf(total);
                }
            for (int p = 0; p < BLOCK; p++) to[p] = line[p] / G;
            to += BLOCK;
            NAME(product)(1 + G, J, m->measured, w, to, 0);
            to += (long)(1 + G) * BLOCK;

            NAME(product)(G, k, m->to_groups, learned, rest, 0);
            for (int p = 0; p < BLOCK; p++) line[p] = 0.0f;
            for (int g = 0; g < G; g++)
                for (int p = 0; p < BLOCK; p++) line[p] += __builtin_fabsf(rest[(long)g * BLOCK + p]);
            for (int p = 0; p < BLOCK; p++) sum[p] = line[p] /= s[p];
            float *shares = to;
            for (int b = 0; b < bands; b++, to += BLOCK) {
                const float *part = parts + (long)b * G * BLOCK;
                for (int p = 0; p < BLOCK; p++) to[p] = 0.0f;
                for (int g = 0; g < G; g++)
                    for (int p = 0; p < BLOCK; p++) to[p] += __builtin_fabsf(part[(long)g * BLOCK + p]);
                for (int p = 0; p < BLOCK; p++) sum[p] += to[p];
            }
            for (int p = 0; p < BLOCK; p++) sum[p] = sum[p] > 1e-12f ? sum[p] : 1e-12f, line[p] /= sum[p];
            for (int b = 0; b < bands; b++)
                for (int p = 0; p < BLOCK; p++) shares[(long)b * BLOCK + p] /= sum[p];

            for (int g = 0; g < m->guides; g++, to += BLOCK) NAME(take)(to, in->gains + g * at->plane + here, n);
            for (int p = 0; p < BLOCK; p++) to[p] = d20[p];
            to += BLOCK;
            NAME(take)(to, in->distance + here, n);
            for (int p = 0; p < BLOCK; p++) to[p] /= m->distance_limit;
            to += BLOCK;
            for (int p = 0; p < BLOCK; p++) to[p] = chi2[p] / (bands - 1);
            to += BLOCK;
            for (int p = 0; p < BLOCK; p++) to[p] = line[p];
            to += BLOCK;
            for (int t = 0; t < m->stages; t++, to += BLOCK) {
                if (t < m->stages_run) NAME(take)(to, in->changes + t * at->plane + here, n);
                else for (int p = 0; p < BLOCK; p++) to[p] = 0.0f;
            }
            NAME(take)(to, in->corrected + here, n);

            short *stored = out + (long)row * at->width + column;
            for (int l = 0; l < m->layers; l++, stored += pixels) {
                float *value = rows + (long)l * BLOCK;
                for (int p = 0; p < BLOCK; p++) value[p] *= m->per_step[l];
                NAME(store)(stored, value, n);
            }
        }
}

/* y (rows, width) = m x, for x (columns, width): rows `from` to `to` of m.
 *
 * What remains of a row is a vector that overlaps the one before, never single numbers: those would be added up in
 * another way, and a column's value would depend on where the row ends. */
static void NAME(down_columns)(const struct banded *m, int from, int to, const float *x, long width, float *y)
{
    typedef NAME(lanes) vec;
    const long step = 4 * LANES;
    for (int r = from; r < to; r++, y += width) {
        const float *w = m->weights + (long)r * m->taps, *top = x + m->first[r] * width;
        long c = 0;
        for (; c + step <= width; c += step) {
            vec a[4] = {{0}};
            for (int t = 0; t < m->taps; t++)
                for (int q = 0; q < 4; q++) a[q] += w[t] * *(const vec *)(top + t * width + c + q * LANES);
            for (int q = 0; q < 4; q++) *(vec *)(y + c + q * LANES) = a[q];
        }
        for (; c < width; c += LANES) {
            const long at = c + LANES <= width ? c : width - LANES;
            vec a = {0};
            if (at >= 0) {
                for (int t = 0; t < m->taps; t++) a += w[t] * *(const vec *)(top + t * width + at);
                *(vec *)(y + at) = a;
                continue;
            }
            for (int t = 0; t < m->taps; t++) { /* narrower than one vector */
                vec some = {0};
                __builtin_memcpy(&some, top + t * width, (size_t)width * sizeof(float));
                a += w[t] * some;
            }
            __builtin_memcpy(y, &a, (size_t)width * sizeof(float));
        }
    }
}

/* y (n, m rows) = x m', for x (n, m columns), n <= ROWS: through columns of ROWS numbers side by side. */
static void NAME(along_rows)(const struct banded *m, int n, const float *x, float *y, float *scratch)
{
    float *in = scratch, *out = in + (long)m->columns * ROWS;
    for (int i = 0; i < ROWS; i++) {
        const float *row = x + (long)(i < n ? i : 0) * m->columns;
        for (int c = 0; c < m->columns; c++) in[(long)c * ROWS + i] = row[c];
    }
    for (int c = 0; c < m->rows; c++) {
        const float *w = m->weights + (long)c * m->taps, *from = in + (long)m->first[c] * ROWS;
        float a[ROWS] = {0};
        for (int t = 0; t < m->taps; t++)
            for (int i = 0; i < ROWS; i++) a[i] += w[t] * from[(long)t * ROWS + i];
        for (int i = 0; i < ROWS; i++) out[(long)c * ROWS + i] = a[i];
    }
    for (int i = 0; i < n; i++) {
        float *row = y + (long)i * m->rows;
        for (int c = 0; c < m->rows; c++) row[c] = out[(long)c * ROWS + i];
    }
}

static void NAME(resample)(const struct banded *vertical, const struct banded *horizontal, long planes, const float *x,
                           float *y, float *scratch)
{
    const int rows = vertical->rows, fewer = rows < vertical->columns, first = fewer ? rows : vertical->columns;
    float *strip = scratch, *turned = strip + (long)ROWS * horizontal->columns;
    float *between = turned + (long)ROWS * (horizontal->columns + horizontal->rows);
    for (long plane = 0; plane < planes; plane++) {
        float *to = fewer ? y : between;
        for (int r = 0; r < first; r += ROWS) {
            const int n = first - r < ROWS ? first - r : ROWS;
            const float *from = x + (long)r * horizontal->columns;
            if (fewer) {
                NAME(down_columns)(vertical, r, r + n, x, horizontal->columns, strip);
                from = strip;
            }
            NAME(along_rows)(horizontal, n, from, to + (long)r * horizontal->rows, turned);
        }
        if (!fewer) NAME(down_columns)(vertical, 0, rows, between, horizontal->rows, y);
        x += (long)vertical->columns * horizontal->columns;
        y += (long)rows * horizontal->rows;
    }
}

/* One pass of the last data step: total += e, seen += response e, with e what the 10 m bands differ by beyond their
 * limits, and what was found of the coarser bands (bands - fine, pixels). */
static void NAME(give_way)(const struct giving_way *m, const float *source, const float *limit, const float *coarse,
                           float *seen, float *total, long pixels, float *scratch)
{
    const int bands = m->bands, fine = m->fine;
    float *e = scratch, *shown = e + (long)bands * BLOCK;
    for (long start = 0; start < pixels; start += BLOCK) {
        const int n = pixels - start < BLOCK ? (int)(pixels - start) : BLOCK;
        for (int b = 0; b < bands; b++) {
            float *row = e + (long)b * BLOCK;
            NAME(take)(shown + (long)b * BLOCK, seen + b * pixels + start, n);
            if (b >= fine) {
                NAME(take)(row, coarse + (b - fine) * pixels + start, n);
                continue;
            }
            float most[BLOCK];
            NAME(take)(row, source + b * pixels + start, n);
            NAME(take)(most, limit + b * pixels + start, n);
            for (int p = 0; p < BLOCK; p++) {
                const float d = row[p] - shown[(long)b * BLOCK + p];
                const float noise = d > most[p] ? most[p] : d < -most[p] ? -most[p] : d;
                row[p] = d - noise;
            }
        }
        NAME(product)(bands, bands, m->response, e, shown, 1);
        for (int b = 0; b < bands; b++)
            for (int p = 0; p < n; p++) {
                seen[b * pixels + start + p] = shown[(long)b * BLOCK + p];
                total[b * pixels + start + p] += e[(long)b * BLOCK + p];
            }
    }
}
