/*
 * For CBMC: every input, and an assertion for each clause.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model.h"
#include "question.h"

struct vm_given nondet_given(void);
u64 nondet_u64(void);
char nondet_char(void);

/* What decides which object points to which is fixed, or each pointer would be any of many. */
static void fix_shape(void)
{
    vm_given.region[0].device = 0;
    vm_given.region[1].device = vm_question.shape == OTHER_DEVICE;
    vm_given.region[0].n_areas = vm_question.shape == SAME_REGION ? 2 : 1;
    vm_given.region[1].n_areas = 1;
    vm_given.block[0].region = vm_given.block[0].area = 0;
    vm_given.block[1].region = vm_question.shape != SAME_REGION;
    vm_given.block[1].area = vm_question.shape == SAME_REGION;
    vm_given.block[VM_PLAIN].region = vm_given.block[VM_PLAIN].area = 0;
    vm_given.second = VM_CALLS > 1;
    if (vm_question.exactly != VM_ANY) {        /* then loops over the entries end where they do */
        vm_given.call[0].n = vm_question.exactly;
    }
}

#define BITS(n) ((1ull << (n)) - 1)
#define PAGES(n) (BITS(n) & ~(VM_PAGE - 1))

/* What follows from vm_is_given() anyhow: bits that are not open from the start need no search. */
static void narrow(void)
{
    unsigned i, j;

    for (i = 0; i < VM_DEVICES; i++) {
        vm_given.device[i].rule &= BITS(2);
        vm_given.device[i].region_fds &= 1;
        vm_given.device[i].region_files &= 1;
    }
    for (i = 0; i < VM_REGIONS; i++) {
        vm_given.region[i].index &= BITS(4);
        vm_given.region[i].size &= BITS(41);
        vm_given.region[i].offset &= vm_question.aligned ? PAGES(60) & ~(VM_MOST_BYTES - 1) : PAGES(60);
        vm_given.region[i].writable &= 1;
        vm_given.region[i].sparse &= 1;
        vm_given.region[i].msix &= BITS(2);
        for (j = 0; j < VM_AREAS; j++) {
            vm_given.area[i][j].offset &= PAGES(41);
            vm_given.area[i][j].size &= BITS(41);
        }
    }
    for (i = 0; i < VM_PLAIN; i++) {
        vm_given.block[i].size = vm_page_up(vm_given.area[vm_given.block[i].region][vm_given.block[i].area].size);
    }
    vm_given.block[VM_PLAIN].size &= PAGES(41);
    vm_given.block[0].touches = vm_given.block[VM_PLAIN].touches = 0;
    vm_given.block[1].touches &= 1;
    for (i = 0; i < VM_CALLS; i++) {
        for (j = 0; j < VM_SEGMENTS; j++) {
            vm_given.call[i].segment[j].block &= BITS(2);
            vm_given.call[i].segment[j].offset &= BITS(40);
        }
    }
    for (i = 0; i < VM_FAULTS; i++) {
        vm_given.fault[i].used &= 1;
        vm_given.fault[i].step &= BITS(4);
        vm_given.fault[i].nth &= BITS(7);
        vm_given.fault[i].error &= BITS(8);
        vm_given.fault[i].late &= 1;
        vm_given.fault[i].persistent &= 1;
    }
    for (i = 0; i < VM_WATCHED; i++) {
        vm_given.watched[i] &= PAGES(47);
    }
    vm_given.null_errp &= 1;
    vm_given.hints &= 1;
    vm_given.noreplace &= 1;
    vm_given.locks &= 1;
    vm_given.read_only &= 1;
    vm_given.end_first &= 1;
}

/* ACCEPTS_VALID speaks of well-formed layouts in which no step fails: the last call has such a one then, with as few bits
 * left open as it has. */
static void make_valid(void)
{
    const unsigned last = VM_CALLS - 1;
    const u64 block = vm_given.call[last].segment[0].block & 1;
    u64 total = 0;
    unsigned i;

    if (!vm_question.valid) {
        return;
    }
    /* Only the first area may end inside a page. */
    vm_given.region[1].size &= PAGES(41);
    vm_given.area[1][0].size &= PAGES(41);
    vm_given.area[0][1].size &= PAGES(41);
    vm_given.call[last].n = vm_question.valid;
    for (i = 0; i < vm_question.valid; i++) {
        vm_given.call[last].segment[i].block = block;
        vm_given.call[last].segment[i].offset &= PAGES(40);
        vm_given.call[last].segment[i].length &= PAGES(41);
        total += vm_given.call[last].segment[i].length;
    }
    vm_given.call[last].total_size = total;
    if (last == 0) {
        vm_given.fault[0].used = 0;
    }
}

/* A subject that is not told the total size takes the sum of the lengths for it. */
static void make_summed(void)
{
    unsigned c, i;

    for (c = 0; c < VM_CALLS && vm_question.summed; c++) {
        u64 total = 0;

        for (i = 0; i < VM_SEGMENTS; i++) {
            total += i < vm_given.call[c].n ? vm_given.call[c].segment[i].length : 0;
        }
        vm_given.call[c].total_size = total;
    }
}

/* Buffers that every machine can map. */
static void make_small(void)
{
    unsigned c;

    for (c = 0; c < VM_CALLS && vm_question.most_bytes; c++) {
        __CPROVER_assume(vm_given.call[c].total_size <= vm_question.most_bytes);
    }
}

/* An assertion for each clause, with its id: those that are asked for are chosen by the names that CBMC gives them. */
static void hold(unsigned violated)
{
#define HOLDS(id) __CPROVER_assert(!(violated & VM(id)), #id);
    VM_CLAUSES(HOLDS)
#undef HOLDS
}

void vm_violate(unsigned clauses)
{
    vm_violated |= clauses;
}

static unsigned with_second(unsigned first, unsigned second)
{
    if (second & VM(SURVIVES)) {
        return first | VM(SURVIVES);
    }
    return first | (second & ~vm_question.unsaid ? VM(REPEATABLE) : 0);
}

/* Of a call that ends its process, only how it ended is judged. */
void vm_die(unsigned clauses)
{
    hold(vm_is_second ? with_second(vm_before, clauses) : clauses);
    __CPROVER_assume(false);
}

void *vm_block(size_t bytes, bool zero)
{
    return zero ? calloc(1, bytes) : malloc(bytes);
}

void vm_return(void *block)
{
    if (!__CPROVER_DYNAMIC_OBJECT(block) || __CPROVER_POINTER_OFFSET(block) != 0 || !__CPROVER_rw_ok(block, 1)) {
        vm_die(VM(SURVIVES));           /* none of the heap's, or freed already */
    }
    free(block);
}

/* What is printed may be any text without a NUL that is as long as the format permits, of several lines only by it. */
int vm_snprintf(char *text, size_t room, const char *format, ...)
{
    u64 least = 0, most = 0, length, written;
    bool in = false, wide = false, lines = false;
    unsigned i;

    for (i = 0; i < 200 && format[i]; i++) {
        const char c = format[i];

        lines = lines || c == '\n' || (in && (c == 'c' || c == 's'));
        if (!in && c == '%') {
            in = true;
            wide = false;
        } else if (in && (c == 'l' || c == 'z')) {
            wide = true;
        } else {
            least += !in ? 1 : c == 's' ? 0 : c == 'p' ? 3 : 1;
            most += !in || c == 'c' || c == '%' ? 1 : c == 'd' ? (wide ? 20 : 11) : c == 'u' ? (wide ? 20 : 10)
                    : c == 'x' ? (wide ? 16 : 8) : c == 'p' ? 18 : 1u << 20;
            if (in && c != 'c' && c != '%' && c != 'd' && c != 'u' && c != 'x' && c != 'p' && c != 's') {
                vm_leave("snprintf() with flags, widths or other conversions");
            }
            in = false;
        }
    }
    length = nondet_u64();
    __CPROVER_assume(length >= least && length <= most);
    if (room) {
        written = length < room ? length : room - 1;
        if (!__CPROVER_w_ok(text, written + 1)) {
            vm_die(VM(SURVIVES));
        }
        if (written >= 200) {
            vm_leave("texts of 200 characters and more that are printed");
        }
        for (i = 0; i < 200 && i < room; i++) {
            const char c = nondet_char();

            __CPROVER_assume(c != 0 && (lines || c != '\n'));
            if (i <= written) {
                text[i] = i < written ? c : 0;
            }
        }
    }
    return (int)length;
}

int main(void)
{
    vm_given = nondet_given();
    fix_shape();
    narrow();
    make_valid();
    make_summed();
    make_small();
    __CPROVER_assume(vm_is_given());
    vm_run();
    hold(with_second(vm_violated, vm_again));
    return 0;
}
