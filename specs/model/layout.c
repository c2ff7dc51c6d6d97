/*
 * What the spec asks of a layout.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model.h"

#define HOSTS 0x100000000000ull
#define BETWEEN_HOSTS (1ull << 42)
#define NOWHERE 0x300000000000ull

typedef unsigned __int128 u128;

u64 vm_block_host(unsigned block)
{
    if (block == VM_NO_BLOCK) {
        return NOWHERE;
    }
    if (block == 1 && vm_given.block[1].touches) {
        return HOSTS + vm_given.block[0].size;
    }
    return HOSTS + block * BETWEEN_HOSTS;
}

int vm_block_memory(unsigned block)
{
    const u64 region = vm_given.block[block].region;

    if (block >= VM_PLAIN) {
        return -1;
    }
    return vm_given.device[vm_given.region[region].device].region_files ? VM_DEVICES + (int)region
                                                                         : (int)vm_given.region[region].device;
}

u64 vm_block_offset(unsigned block)
{
    const u64 region = vm_given.block[block].region;

    return vm_given.region[region].offset + vm_given.area[region][vm_given.block[block].area].offset;
}

/* Segment i of a call: where it ends in the block, in numbers that do not overflow. */
static u128 end_of(unsigned call, unsigned i)
{
    return (u128)vm_given.call[call].segment[i].offset + vm_given.call[call].segment[i].length;
}

struct vm_expected vm_expect(unsigned call)
{
    const u64 n = vm_given.call[call].n, total = vm_given.call[call].total_size;
    struct vm_expected expected = {0, false, vm_page_up(total)};
    u128 sum = 0, whole = ((u128)total + VM_PAGE - 1) & ~(u128)(VM_PAGE - 1);
    unsigned i;

    if (n == 0) {
        expected.refusals |= VM(NOT_EMPTY);
        return expected;
    }
    for (i = 0; i < VM_SEGMENTS; i++) {
        const u64 block = vm_given.call[call].segment[i].block, length = vm_given.call[call].segment[i].length;

        if (i >= n) {
            break;
        }
        sum += length;
        if (!length) {
            expected.refusals |= VM(NOT_EMPTY);
        }
        if (block >= VM_PLAIN || block != vm_given.call[call].segment[0].block) {
            expected.refusals |= VM(SAME_BLOCK);
        }
        if (block != VM_NO_BLOCK && end_of(call, i) > vm_given.block[block].size) {
            expected.refusals |= VM(WITHIN_BLOCK);
        }
        if (vm_in_page(vm_given.call[call].segment[i].offset) || (vm_in_page(length) && i + 1 < n)) {
            expected.refusals |= VM(ALIGNED);
        }
        if (vm_in_page(length) && i + 1 == n) {
            expected.either = true;
        }
    }
    if (sum > total && sum <= whole) {
        expected.either = true;     /* it fills the last page, which is reserved whole */
    } else if (sum != total) {
        expected.refusals |= VM(SIZE_AGREES);
    }
    return expected;
}

void vm_wanted(unsigned call, u64 at, int *memory, u64 *start)
{
    u64 before = 0;
    unsigned i;

    for (i = 0; i < VM_SEGMENTS && i < vm_given.call[call].n; i++) {
        const u64 bytes = vm_page_up(vm_given.call[call].segment[i].length);
        const unsigned block = (unsigned)vm_given.call[call].segment[i].block;

        if (at - before < bytes) {
            *memory = vm_block_memory(block);
            *start = vm_block_offset(block) + vm_given.call[call].segment[i].offset - before;
            return;
        }
        before += bytes;
    }
    *memory = -1;
    *start = 0;
}
