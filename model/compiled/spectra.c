/* The per-pixel part of the duality model on a processor: unfolding, last rounding, expansion, layers.
 *
 * The same mathematics as model/mixture.py, unfolding.py, solution.py, uncertainty.py and explain.py, which stay the
 * reference and what runs on an accelerator and where this was not built. Here everything between two matrix products
 * stays in registers or the first cache, and classes that a block of pixels has no share in are left out.
 * `model/compiled/__init__.py` fills the structures and chooses the instruction set.
 */
#include <math.h>
#include <stdlib.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#if defined(__FAST_MATH__) || __FLT_EVAL_METHOD__ != 0
#error "numbers are rounded by adding and subtracting 1.5 * 2^23, which needs arithmetic as written"
#endif

#define VERSION 3 /* of what Python and this file agree on: raise both when a structure or a meaning changes */
#define BLOCK 64
#define ROWS 8 /* rows of an image that are resampled side by side */
#define NEGLIGIBLE 1e-9f /* a class's share below this is none: under the precision of the sum it stands in */

struct unfolding {
    int bands, k, classes, hidden, stages;
    float floor2, relaxation, per_channel;
    const float *whitener;       /* (J, bands - 1, bands) L and minus L times the class mean */
    const float *log_normaliser; /* (J) */
    const float *class_width;    /* (J) what is added to a class's squared distance */
    const float *gain;           /* (J, k, bands + 1) K_j and m_j - K_j A m_j */
    const float *inner;          /* (stages, hidden, bands + 1 + k) */
    const float *middle;         /* (stages, hidden, hidden) */
    const float *middle_bias;    /* (stages, hidden) */
    const float *outer;          /* (stages, k, hidden) */
    const float *outer_bias;     /* (stages, k) */
    const float *data_step;      /* (stages, k, bands + 1 + k) */
    const float *passing;        /* (k, stages k) */
};

struct unfolded {
    float *coefficients, *weights, *scale, *distance, *learned, *changes;
};

struct finishing {
    int bands, k, judged;
    const float *correction;  /* (k, judged) */
    const float *steps;       /* (k) */
    const float *observation; /* (bands, k) */
};

struct expansion {
    int channels, k;
    const float *components; /* (channels, k) in stored units */
    const float *steps;      /* (k) */
};

/* The part of planes of `stride` columns and `plane` pixels that is asked for. */
struct frame {
    long plane, stride;
    int left, top, width, height;
};

struct explaining {
    int bands, k, classes, groups, guides, stages, stages_run, layers;
    float distance_limit;
    const float *group_gain;                        /* (J, groups, bands + 1) */
    const float *within;                            /* (groups, J) */
    const float *alpha2, *beta20, *beta60;          /* (groups) */
    const float *measured;                          /* (1 + groups, J) */
    const float *attribution;                       /* (J, bands, groups) */
    const float *band_mean;                         /* (J, bands) */
    const float *to_groups;                         /* (groups, k) */
    const float *noise_absolute, *noise_relative;   /* (bands) squared */
    const float *per_step;                          /* (layers) */
};

/* A matrix of which each row holds `taps` numbers side by side, from column `first` on. */
struct banded {
    int rows, columns, taps;
    const int *first;     /* (rows) */
    const float *weights; /* (rows, taps) */
};

/* The last data step of one window: bands in the order 10 m, 20 m, 60 m. */
struct giving_way {
    int bands, fine;       /* all, and how many of them are 10 m bands and come first */
    const float *response; /* (bands, bands) */
};

struct columns {
    const float *bands, *simulated, *weights, *scale, *distance, *detail20, *detail60, *gains, *learned, *changes, *corrected;
};

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(f) JOIN(f, ISA)

#define ISA base
#define LANES 4
#define TILE 2
#include "kernel.h"
#undef ISA
#undef LANES
#undef TILE

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE 1
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define ISA avx2
#define LANES 8
#define TILE 2
#include "kernel.h"
#undef ISA
#undef LANES
#undef TILE
#pragma GCC pop_options
#endif

int spectra_version(void)
{
    return VERSION;
}

/* Instruction sets that were built: 0 what the compiler takes for granted, 1 AVX2 as well. (AVX-512 brought nothing.) */
int spectra_widest(void)
{
#ifdef WIDE
    return 1;
#else
    return 0;
#endif
}

#ifdef WIDE
#define CHOOSE(isa, f, ...) \
    ((isa) == 1 ? f##_avx2(__VA_ARGS__) : f##_base(__VA_ARGS__))
#else
#define CHOOSE(isa, f, ...) ((void)(isa), f##_base(__VA_ARGS__))
#endif

/* Room for `rows` rows of a block, on a cache line's border; NULL if there is none. */
static float *room(long rows)
{
    return aligned_alloc(64, (size_t)rows * BLOCK * sizeof(float));
}

/* Keep freed memory for the next cell.
 *
 * A cell needs some hundred megabytes of planes, each below 32 MB, that live for milliseconds. As it stands, glibc gives
 * them back to the system and takes them anew, zeroed, each time: a tenth of the model's time. For the whole process.
 * Returns 0 where there is nothing to set or it was refused.
 */
int spectra_keep_memory(void)
{
#if defined(__GLIBC__)
    return mallopt(M_ARENA_MAX, 1) && mallopt(M_MMAP_THRESHOLD, 32 << 20) && mallopt(M_TRIM_THRESHOLD, 512 << 20)
        && mallopt(M_TOP_PAD, 32 << 20);
#else
    return 0;
#endif
}

/* Each returns 0, or 1 if there was no memory. */

int spectra_unfold(int isa, const struct unfolding *m, const struct unfolded *out, const float *y, long pixels)
{
    const long rows = 2L * (m->bands + 1) + m->classes + 3L * m->k + 2L * m->hidden + (long)m->stages * m->k;
    float *scratch = room(rows);
    if (!scratch) return 1;
    CHOOSE(isa, unfold, m, out, y, pixels, scratch);
    free(scratch);
    return 0;
}

/* y (planes, vertical rows, horizontal rows) = vertical x horizontal', for x (planes, vertical columns, horizontal columns) */
int spectra_resample(int isa, const struct banded *vertical, const struct banded *horizontal, long planes,
                     const float *x, float *y)
{
    const long strip = ROWS * ((long)horizontal->columns * 2 + horizontal->rows);
    const long between = vertical->rows < vertical->columns ? 0 : (long)vertical->columns * horizontal->rows;
    float *scratch = room((strip + between) / BLOCK + 1);
    if (!scratch) return 1;
    CHOOSE(isa, resample, vertical, horizontal, planes, x, y, scratch);
    free(scratch);
    return 0;
}

int spectra_give_way(int isa, const struct giving_way *m, const float *source, const float *limit, const float *coarse,
                     float *seen, float *total, long pixels)
{
    float *scratch = room(2L * m->bands);
    if (!scratch) return 1;
    CHOOSE(isa, give_way, m, source, limit, coarse, seen, total, pixels, scratch);
    free(scratch);
    return 0;
}

int spectra_finish(int isa, const struct finishing *m, const float *coefficients, const float *taken_back, long pixels,
                   float *stored, float *simulated)
{
    float *scratch = room((long)m->k + m->judged + m->bands);
    if (!scratch) return 1;
    CHOOSE(isa, finish, m, coefficients, taken_back, pixels, stored, simulated, scratch);
    free(scratch);
    return 0;
}

int spectra_expand(int isa, const struct expansion *m, const float *stored, const struct frame *at, short *out)
{
    float *scratch = room((long)m->k + m->channels);
    if (!scratch) return 1;
    CHOOSE(isa, expand, m, stored, at, out, scratch);
    free(scratch);
    return 0;
}

int spectra_explain(int isa, const struct explaining *m, const struct columns *in, const struct frame *at, short *out)
{
    const long rows = (m->bands + 1L) + m->classes + m->k + (long)m->bands * m->groups + 5L * m->groups + m->layers;
    float *scratch = room(rows);
    if (!scratch) return 1;
    CHOOSE(isa, explain, m, in, at, out, scratch);
    free(scratch);
    return 0;
}
