/*
 * All of a small scope: every layout whose segments begin and end at or around the borders of pages and blocks, in every
 * world of two blocks of three pages, with every fault; for layouts that may be mapped, every pair of faults too.
 *
 * It writes a line for each clause when it is first violated, "found CLAUSES INPUT" in hexadecimal; "left WHY" for the
 * first input that makes the subject do what the model does not have; "runs COUNT LEFT DONE PARTS" now and then and at the
 * end; and "hangs" if it ends early because too many runs do not return.
 *
 * SPDX-License-Identifier: MIT
 */
#include "native.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGES 3ull                      /* of a block */
#define BLOCK (PAGES * VM_PAGE)
#define MINUS(bytes) (~(u64)0 - (bytes) + 1)
#define MOST_HANGS 20
#define EVERY (1u << 18)                /* runs between two lines on how far it is */

struct choice { u64 block, offset, length; };
#define MOST_CHOICES 400

static const u64 offsets[] = {0, VM_PAGE, 2 * VM_PAGE, 1, BLOCK - 1};
static const u64 lengths[] = {VM_PAGE, 2 * VM_PAGE, BLOCK, 0, 1, VM_PAGE - 1, VM_PAGE + 1, 2 * VM_PAGE + 1, BLOCK + 1,
                              1ull << 63, MINUS(VM_PAGE)};
/* What the third segment and those after it choose from. */
static const u64 few_offsets[] = {0, VM_PAGE, 2 * VM_PAGE};
static const u64 few_lengths[] = {VM_PAGE, 2 * VM_PAGE, 0, VM_PAGE + 1, MINUS(VM_PAGE)};

static struct choice choices[MOST_CHOICES], few_choices[MOST_CHOICES];
static unsigned n_choices, n_few_choices;
static struct vm_given given;
static uint64_t n_runs, n_left;
static unsigned told, n_parts_done, n_parts;

#define N(array) (sizeof(array) / sizeof(*(array)))

static unsigned list_choices(struct choice *into, const u64 *some_offsets, size_t n_offsets, const u64 *some_lengths,
                             size_t n_lengths)
{
    unsigned n = 0, block;
    size_t o, l;

    for (block = 0; block <= VM_NO_BLOCK; block++) {
        for (o = 0; o < (block == VM_NO_BLOCK ? 1 : n_offsets); o++) {
            for (l = 0; l < n_lengths; l++) {
                into[n++] = (struct choice){block, some_offsets[o], some_lengths[l]};
            }
        }
    }
    return n;
}

static void write_found(unsigned clauses)
{
    const u64 *words = (const u64 *)&given;
    size_t i;

    printf("found %x", clauses);
    for (i = 0; i < sizeof(given) / sizeof(*words); i++) {
        printf(" %" PRIx64, words[i]);
    }
    putchar('\n');
    fflush(stdout);
}

static void write_count(void)
{
    printf("runs %" PRIu64 " %" PRIu64 " %u %u\n", n_runs, n_left, n_parts_done, n_parts);
    fflush(stdout);
}

static unsigned run(void)
{
    const unsigned answer = vm_run_native(&given);

    n_runs++;
    if (n_runs % EVERY == 0) {
        write_count();
    }
    if (answer & VM_LEFT) {
        if (!n_left++) {
            printf("left %s\n", vm_why_left);
        }
    } else if (answer & ~told) {
        told |= answer;
        write_found(answer);
    }
    if (vm_hangs > MOST_HANGS) {
        write_count();
        puts("hangs");
        exit(0);
    }
    return answer;
}

/* ---- faults ------------------------------------------------------------------------------------------------------------ */

static void set_fault(unsigned f, unsigned step, unsigned nth, u64 error, bool late, bool persistent)
{
    given.fault[f].used = 1;
    given.fault[f].step = step;
    given.fault[f].nth = nth;
    given.fault[f].error = error;
    given.fault[f].late = late;
    given.fault[f].persistent = persistent;
}

/* Every fault at a step that the run before has made; `every_error`, or the first one. */
static void run_faults(unsigned f, bool every_error, bool pairs)
{
    unsigned counts[VM_STEPS], step, nth, e, kind;

    for (step = 0; step < VM_STEPS; step++) {
        counts[step] = vm_counts[step];
    }
    for (step = 0; step < VM_STEPS; step++) {
        for (nth = 1; nth <= counts[step] && nth <= 64; nth++) {
            for (e = 0; e < (every_error ? VM_MOST_ERRORS : 1) && vm_errors[step][e]; e++) {
                for (kind = 0; kind < (step == VM_MMAP ? 4u : 2u); kind++) {
                    set_fault(f, step, nth, vm_errors[step][e], kind >> 1, kind & 1);
                    run();
                    if (pairs && f + 1 < VM_FAULTS && e == 0) {
                        run_faults(f + 1, false, pairs);
                    }
                }
            }
        }
    }
    given.fault[f].used = 0;
}

/* ---- layouts ----------------------------------------------------------------------------------------------------------- */

/* The first two places where a mapping may be, and what is around the blocks. */
static void watch(u64 bytes)
{
    const u64 pages = bytes / VM_PAGE + 2;
    unsigned place, b;
    u64 i;

    vm_n_watched = 0;
    given.watched[vm_n_watched++] = 0;
    for (b = 0; b < VM_BLOCKS; b++) {
        given.watched[vm_n_watched++] = vm_block_host(b);
        given.watched[vm_n_watched++] = vm_block_host(b) + BLOCK;
    }
    for (place = 0; place < 2; place++) {
        for (i = 0; i < pages && vm_n_watched < VM_WATCHED; i++) {
            given.watched[vm_n_watched++] = vm_place(place) + i * VM_PAGE;
        }
    }
}

/* Where descriptors are open for reading only, and where the kernel answers otherwise. */
static void run_elsewhere(void)
{
    given.read_only = 1;
    run();
    given.read_only = given.hints = 0;
    run();
    given.noreplace = 0;
    run();
    given.hints = given.noreplace = 1;
    given.locks = 0;
    run();
    given.locks = 1;
}

/* The same call again, while the first mapping lives and after its end; the first one with every fault. */
static void run_twice(void)
{
#if VM_CALLS > 1
    given.call[1] = given.call[0];
    for (given.end_first = 0; given.end_first < 2; given.end_first++) {
        given.second = 1;
        run();
        run_faults(0, false, false);
    }
    given.second = given.end_first = 0;
#endif
}

static void run_layout(u64 total)
{
    struct vm_expected expected;
    unsigned null;

    given.call[0].total_size = total;
    vm_given = given;
    expected = vm_expect(0);
    watch(total < 64 * VM_PAGE ? total : 0);
    for (null = 0; null < 2; null++) {
        given.null_errp = null;
        run();
        run_faults(0, true, !expected.refusals);
        if (!expected.refusals) {
            run_elsewhere();
            run_twice();
        }
    }
}

static void run_totals(u64 sum)
{
#ifdef VM_SUMMED                        /* the subject is not told the total size, and takes the sum for it */
    const u64 totals[] = {sum};
#else
    const u64 totals[] = {sum, sum + 1, sum - 1, sum + VM_PAGE, sum - VM_PAGE, vm_page_up(sum), 0, MINUS(VM_PAGE),
                          1ull << 62};
#endif
    unsigned i, j;

    for (i = 0; i < N(totals); i++) {
        for (j = 0; j < i && totals[j] != totals[i]; j++) {
        }
        if (j == i) {
            run_layout(totals[i]);
        }
    }
}

static void choose(unsigned at, unsigned n, u64 sum)
{
    const bool few = at >= 2;
    unsigned i;

    if (at == n) {
        run_totals(sum);
        return;
    }
    for (i = 0; i < (few ? n_few_choices : n_choices); i++) {
        const struct choice *choice = few ? &few_choices[i] : &choices[i];

        given.call[0].segment[at].block = choice->block;
        given.call[0].segment[at].offset = choice->offset;
        given.call[0].segment[at].length = choice->length;
        choose(at + 1, n, sum + choice->length);
    }
}

/* ---- worlds ------------------------------------------------------------------------------------------------------------ */

#define SHAPES 3                        /* the second block: another area of the region, another region, another device */
#define KINDS 3                         /* descriptors: of the device, of its regions, of a file for each region */
#define WORLDS (SHAPES * KINDS)

static void make_world(unsigned world)
{
    const unsigned shape = world % SHAPES, kind = world / SHAPES;
    unsigned d, r, b;

    given = (struct vm_given){.hints = 1, .noreplace = 1, .locks = 1};
    for (d = 0; d < VM_DEVICES; d++) {
        given.device[d].rule = kind ? VM_BY_REGION : VM_BY_AREAS;
        given.device[d].region_fds = kind > 0;
        given.device[d].region_files = kind > 1;
    }
    for (r = 0; r < VM_REGIONS; r++) {
        const bool two = r == 0 && shape == 0;

        given.region[r].device = r == 1 && shape == 2;
        given.region[r].index = 2 * r + 1;
        given.region[r].size = two ? 3 * BLOCK : BLOCK - (kind == 1);       /* a block is of whole pages */
        given.region[r].offset = ((2 * r + 1ull) << 40) + (kind ? 5 * VM_PAGE : 0);
        given.region[r].writable = kind != 1;
        given.region[r].sparse = two;
        given.region[r].n_areas = two ? 2 : 1;
        given.area[r][0].size = two ? BLOCK : given.region[r].size;
        given.area[r][0].offset = two ? VM_PAGE : 0;
        given.area[r][1].offset = 2 * BLOCK;
        given.area[r][1].size = BLOCK;
    }
    for (b = 0; b < VM_BLOCKS; b++) {
        given.block[b].size = BLOCK;
    }
    given.block[1].region = shape != 0;
    given.block[1].area = shape == 0;
    given.block[1].touches = kind == 2;
}

void vm_exhaust(unsigned segments, unsigned part, unsigned parts)
{
    unsigned n, world, i, k = 0;

    n_choices = list_choices(choices, offsets, N(offsets), lengths, N(lengths));
    n_few_choices = list_choices(few_choices, few_offsets, N(few_offsets), few_lengths, N(few_lengths));
    for (n = 0; n <= segments && n <= VM_SEGMENTS; n++) {
        n_parts += n ? WORLDS * n_choices : WORLDS;
    }
    n_parts = (n_parts + parts - 1 - part) / parts;
    for (n = 0; n <= segments && n <= VM_SEGMENTS; n++) {
        for (world = 0; world < WORLDS; world++) {
            make_world(world);
            given.call[0].n = n;
            for (i = 0; i < (n ? n_choices : 1); i++) {
                if (k++ % parts != part) {
                    continue;
                }
                if (!n) {
                    run_totals(0);
                } else {
                    given.call[0].segment[0].block = choices[i].block;
                    given.call[0].segment[0].offset = choices[i].offset;
                    given.call[0].segment[0].length = choices[i].length;
                    choose(1, n, choices[i].length);
                }
                n_parts_done++;
            }
        }
    }
    write_count();
}
