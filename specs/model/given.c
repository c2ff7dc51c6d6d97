/*
 * Which inputs there are: those that a case can have (vfio_verify/values/case.py), of this number of devices, regions
 * and blocks.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model.h"

struct vm_given vm_given;

/* What each step answers when it fails, by its man page; a look-up without an errno just fails. */
const u64 vm_errors[VM_STEPS][VM_MOST_ERRORS] = {
    [VM_MMAP] = {ENOMEM, EINVAL, EACCES, EAGAIN, EBADF, ENODEV, EPERM, ENFILE, EOVERFLOW, EBUSY, EEXIST, ETXTBSY, EIO},
    [VM_MUNMAP] = {ENOMEM, EINVAL},
    [VM_MPROTECT] = {ENOMEM, EACCES, EINVAL},
    [VM_DUP] = {EMFILE, EBADF, EBUSY, EINTR, ENOMEM},
    [VM_CLOSE] = {EINTR, EIO, EBADF, ENOSPC, EDQUOT},
    [VM_FIND_DEVICE] = {EINVAL},
    [VM_FIND_BLOCK] = {EINVAL},
    [VM_FIND_INDEX] = {EINVAL},
    [VM_FIND_REGION] = {EINVAL},
    [VM_REGION_INFO] = {EINVAL, ENOMEM, ENODEV, EIO, ENOTTY},
    [VM_REGION_FD] = {EINVAL, ENOMEM, ENODEV, EMFILE},
};

static bool is_size(u64 bytes)
{
    return bytes > 0 && bytes <= VM_MOST_BYTES;
}

static bool is_device(unsigned d)
{
    const u64 fds = vm_given.device[d].region_fds;

    return vm_given.device[d].rule <= VM_BY_NOTHING && fds <= 1 && vm_given.device[d].region_files <= fds
           && (fds || vm_given.device[d].rule != VM_BY_NOTHING);
}

static bool are_areas(unsigned r)
{
    const u64 n = vm_given.region[r].n_areas, size = vm_given.region[r].size;
    const u64 first = vm_given.area[r][0].offset, first_end = first + vm_given.area[r][0].size;
    const u64 second = vm_given.area[r][1].offset, second_end = second + vm_given.area[r][1].size;

    if (n < 1 || n > VM_AREAS || vm_in_page(first) || !is_size(vm_given.area[r][0].size) || first > VM_MOST_BYTES
        || first_end > size) {
        return false;
    }
    if (n == 2 && (vm_in_page(second) || !is_size(vm_given.area[r][1].size) || second > VM_MOST_BYTES
                   || second < first_end || second_end > size)) {
        return false;
    }
    if (vm_given.region[r].msix == VM_MSIX_CUT) {       /* all of the region but one run of bytes, which begins at a page */
        if (n == 1 && first > 0) {
            return first_end == size;
        }
        return first == 0 && vm_in_page(first_end) == 0
               && (n == 1 ? first_end < size : first_end < second && second_end == size);
    }
    return vm_given.region[r].sparse || (n == 1 && first == 0 && first_end == size);
}

static bool is_region(unsigned r)
{
    return vm_given.region[r].device < VM_DEVICES && vm_given.region[r].index < VM_INDEXES
           && is_size(vm_given.region[r].size) && !vm_in_page(vm_given.region[r].offset)
           && vm_given.region[r].offset <= 1ull << 59
           && vm_given.region[r].writable <= 1 && vm_given.region[r].sparse <= 1 && vm_given.region[r].msix <= VM_MSIX_MAPPABLE
           && !(vm_given.region[r].sparse && vm_given.region[r].msix) && are_areas(r);
}

/* Regions of one file do not overlap in it. */
static bool are_apart(void)
{
    const u64 a = vm_given.region[0].offset, b = vm_given.region[1].offset;

    if (vm_given.region[0].device != vm_given.region[1].device) {
        return true;
    }
    return vm_given.region[0].index != vm_given.region[1].index
           && (vm_given.device[vm_given.region[0].device].region_files || a + vm_page_up(vm_given.region[0].size) <= b
               || b + vm_page_up(vm_given.region[1].size) <= a);
}

static bool is_block(unsigned b)
{
    const u64 region = vm_given.block[b].region, area = vm_given.block[b].area;

    return region < VM_REGIONS && area < VM_AREAS && area < vm_given.region[region].n_areas
           && vm_given.block[b].size == vm_page_up(vm_given.area[region][area].size);
}

static bool is_call(unsigned c)
{
    unsigned i;

    if (vm_given.call[c].n > VM_SEGMENTS) {
        return false;
    }
    for (i = 0; i < VM_SEGMENTS; i++) {
        const u64 block = vm_given.call[c].segment[i].block, offset = vm_given.call[c].segment[i].offset;

        if (block > VM_NO_BLOCK || offset >= (block == VM_NO_BLOCK ? 1ull << 30 : vm_given.block[block].size)) {
            return false;
        }
    }
    return true;
}

static bool is_fault(unsigned f)
{
    const u64 step = vm_given.fault[f].step, error = vm_given.fault[f].error;
    unsigned s, i;

    if (!vm_given.fault[f].used) {
        return true;
    }
    if (vm_given.fault[f].used > 1 || vm_given.fault[f].nth < 1 || vm_given.fault[f].nth > 64
        || vm_given.fault[f].persistent > 1 || vm_given.fault[f].late > (step == VM_MMAP)) {
        return false;
    }
    for (s = 0; s < VM_STEPS; s++) {
        for (i = 0; i < VM_MOST_ERRORS && vm_errors[s][i]; i++) {
            if (step == s && error == vm_errors[s][i]) {
                return true;
            }
        }
    }
    return false;
}

bool vm_is_given(void)
{
    bool given = true;
    unsigned i;

    for (i = 0; i < VM_DEVICES; i++) {
        given = given && is_device(i);
    }
    for (i = 0; i < VM_REGIONS; i++) {
        given = given && is_region(i);
    }
    given = given && are_apart();
    for (i = 0; i < VM_PLAIN; i++) {
        given = given && is_block(i);
    }
    given = given && (vm_given.block[0].region != vm_given.block[1].region
                      || vm_given.block[0].area != vm_given.block[1].area)
            && is_size(vm_given.block[VM_PLAIN].size) && !vm_in_page(vm_given.block[VM_PLAIN].size) && vm_given.block[1].touches <= 1
            && !vm_given.block[0].touches && !vm_given.block[VM_PLAIN].touches;
    for (i = 0; i < VM_CALLS; i++) {
        given = given && is_call(i);
    }
    for (i = 0; i < VM_FAULTS; i++) {
        given = given && is_fault(i);
    }
    for (i = 0; i < VM_WATCHED; i++) {
        given = given && vm_in_page(vm_given.watched[i]) == 0 && vm_given.watched[i] < 1ull << 47;
    }
    return given && vm_given.null_errp <= 1 && vm_given.hints <= 1 && vm_given.noreplace <= 1 && vm_given.locks <= 1
           && vm_given.second <= 1 && vm_given.end_first <= 1 && vm_given.read_only <= !vm_given.second;
}
