/*
 * For CBMC: every input, and an assertion for each clause.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model.h"

struct vm_given nondet_given(void);
u64 nondet_u64(void);
char nondet_char(void);

#ifndef VM_SHAPE
#define VM_SHAPE 0
#endif
/* Where the second block is: in another area of the first one's region, in another region, or of another device. */
enum { SAME_REGION, SAME_DEVICE, OTHER_DEVICE };

/* What decides which object points to which is fixed, or each pointer would be any of many. */
static void fix_shape(void)
{
    vm_given.region[0].device = 0;
    vm_given.region[1].device = VM_SHAPE == OTHER_DEVICE;
    vm_given.region[0].n_areas = VM_SHAPE == SAME_REGION ? 2 : 1;
    vm_given.region[1].n_areas = 1;
    vm_given.block[0].region = vm_given.block[0].area = 0;
    vm_given.block[1].region = VM_SHAPE != SAME_REGION;
    vm_given.block[1].area = VM_SHAPE == SAME_REGION;
    vm_given.block[VM_PLAIN].region = vm_given.block[VM_PLAIN].area = 0;
    vm_given.second = VM_CALLS > 1;
}

#ifdef VM_VALID
/* ACCEPTS_VALID speaks of well-formed layouts in which no step fails: those alone are made then, with as few bits left
 * open as they have. VM_VALID is the number of segments. */
static void make_valid(void)
{
    const u64 block = vm_given.call[0].segment[0].block & 1;
    u64 total = 0;
    unsigned i;

    /* Only the first area's region may end inside a page. */
    vm_given.region[1].size &= ~(VM_PAGE - 1);
    vm_given.area[1][0].size &= ~(VM_PAGE - 1);
    vm_given.area[0][1].size &= ~(VM_PAGE - 1);
    vm_given.call[0].n = VM_VALID;
    for (i = 0; i < VM_VALID; i++) {
        vm_given.call[0].segment[i].block = block;
        vm_given.call[0].segment[i].offset &= (VM_MOST_BYTES - 1) & ~(VM_PAGE - 1);
        vm_given.call[0].segment[i].length &= (2 * VM_MOST_BYTES - 1) & ~(VM_PAGE - 1);
        total += vm_given.call[0].segment[i].length;
    }
    vm_given.call[0].total_size = total;
    vm_given.fault[0].used = 0;
}
#else
static void make_valid(void) {}
#endif

/* A subject that is not told the total size takes the sum of the lengths for it. */
static void make_summed(void)
{
#ifdef VM_SUMMED
    unsigned c, i;

    for (c = 0; c < VM_CALLS; c++) {
        u64 total = 0;

        for (i = 0; i < VM_SEGMENTS; i++) {
            total += i < vm_given.call[c].n ? vm_given.call[c].segment[i].length : 0;
        }
        vm_given.call[c].total_size = total;
    }
#endif
}

/* Buffers that every machine can map. */
static void make_small(void)
{
#ifdef VM_SMALL
    unsigned c;

    for (c = 0; c < VM_CALLS; c++) {
        __CPROVER_assume(vm_given.call[c].total_size <= VM_SMALL);
    }
#endif
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

#ifndef VM_ALONE
#define VM_ALONE 0                  /* what a call by itself is known to violate: REPEATABLE does not say it again */
#endif

static unsigned with_second(unsigned first, unsigned second)
{
    if (second & VM(SURVIVES)) {
        return first | VM(SURVIVES);
    }
    return first | (second & ~(unsigned)VM_ALONE ? VM(REPEATABLE) : 0);
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
    make_valid();
    make_summed();
    make_small();
    __CPROVER_assume(vm_is_given());
    vm_run();
    hold(with_second(vm_violated, vm_again));
    return 0;
}
