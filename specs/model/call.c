/*
 * A call of the subject, and what each clause says of it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model.h"

unsigned vm_violated, vm_again, vm_before;
bool vm_is_second;

/* Whether a page of the mapping is as the spec wants it. */
static bool is_right(unsigned number, unsigned w, u64 address)
{
    const struct vm_watched *page = &vm_page[w];
    int memory;
    u64 start;

    vm_wanted(number, vm_given.watched[w] - address, &memory, &start);
    return page->state == VM_FILE && page->prot == PROT_READ && page->shared && page->memory == memory
           && page->zero == start - address;
}

/* FAULT_REPORTED, of mappings: which of them failed, and left the page wrong. */
static bool lacks_mapping(unsigned number, unsigned w, u64 address, u64 length)
{
    const u64 at = vm_given.watched[w] - address;
    unsigned i;

    if (at >= length || is_right(number, w, address)) {
        return false;
    }
    for (i = 0; i < VM_MOST_FAILED && i < vm_kernel.n_failed_mmaps; i++) {
        const struct vm_failed_mmap *failed = &vm_kernel.failed_mmap[i];
        const u64 start = failed->start - address;
        const bool inside = start < length && failed->bytes <= length - start;

        if (!failed->again && (!inside || at - start < failed->bytes)) {
            return true;
        }
    }
    return false;
}

/* Of look-ups: that failed, and that nothing made up for. */
static bool lacks_look_up(bool is_wrong)
{
    unsigned i;

    for (i = 0; i < VM_MOST_FAILED && i < vm_kernel.n_failed_look_ups; i++) {
        const struct vm_failed_look_up *failed = &vm_kernel.failed_look_up[i];
        const u64 ever = failed->before | failed->later;
        const bool others = !failed->same_before && (failed->step == VM_REGION_FD || (failed->wanted & ~ever) == 0);

        if (!failed->again && (is_wrong || ((failed->wanted & ~failed->later) != 0 && !others))) {
            return true;
        }
    }
    return false;
}

/* `had`: the subject held the page before the call. */
static void judge_page(unsigned number, unsigned w, bool had, bool mapped, u64 address,
                       const struct vm_expected *expected)
{
    const struct vm_watched *page = &vm_page[w];
    const u64 at = vm_given.watched[w] - address;
    const bool in_result = mapped && at < expected->length;
    const bool is_mapped = page->state == VM_ANONYMOUS || page->state == VM_FILE;

    if (page->window) {
        vm_violate(VM(NO_WINDOW));
    }
    if (!mapped) {
        if (page->own && is_mapped && !page->excused && !had) {
            vm_violate(VM(UNMAP_ON_ERROR));
        }
        return;
    }
    if (expected->refusals) {
        return;
    }
    if (!in_result) {
        if (page->own && is_mapped && !page->excused && !had) {
            vm_violate(VM(CONTIGUOUS));
        }
        return;
    }
    if (page->freed) {
        vm_violate(VM(NO_WINDOW));
    }
    if (page->state != VM_FILE || !(page->prot & PROT_READ)) {
        vm_violate(VM(CONTIGUOUS));
    }
    if (page->state == VM_FILE && (page->prot & PROT_READ)) {
        int memory;
        u64 start;

        vm_wanted(number, at, &memory, &start);
        if (page->memory != memory || page->zero != start - address || !page->shared) {
            vm_violate(VM(CONTENTS));
        }
    }
    if (is_mapped && page->prot != PROT_NONE && (page->prot != PROT_READ || !page->shared)) {
        vm_violate(VM(READ_ONLY));
    }
}

/* What of a call's end does not depend on a page. */
static void judge_answer(const struct vv_call *call, const struct vm_expected *expected)
{
    const bool error = vm_error_left();

    if (call->mapped) {
        if (expected->refusals) {
            vm_violate(expected->refusals);
        } else if (vm_in_page((u64)call->address) || !call->address) {
            vm_violate(VM(CONTIGUOUS));
        }
    } else if (!expected->refusals && !expected->either && !vm_kernel.failed && !vm_kernel.starved) {
        vm_violate(VM(ACCEPTS_VALID));
    }
    if (VM_HAS_ERRP && call->errp && error != !call->mapped) {
        vm_violate(VM(ERROR_SET));
    }
    if (vm_kernel.kept_fds || vm_kernel.kept_blocks || vm_kernel.kept_references || vm_kernel.kept_locks) {
        vm_violate(VM(NO_LEAK));
    }
}

static void judge_fault(unsigned number, const struct vv_call *call, const struct vm_expected *expected)
{
    const u64 address = (u64)call->address;
    bool is_wrong = false, lacks = false;
    unsigned w;

    if (!call->mapped || expected->refusals) {
        /* How a buffer that must be refused is mapped does not matter, but for look-ups. */
        if (call->mapped && lacks_look_up(true)) {
            vm_violate(VM(FAULT_REPORTED));
        }
        return;
    }
    if (vm_in_page(address) || address >= VM_TASK_END) {        /* no page is right */
        is_wrong = true;
        for (w = 0; w < VM_MOST_FAILED && w < vm_kernel.n_failed_mmaps; w++) {
            lacks = lacks || !vm_kernel.failed_mmap[w].again;
        }
    }
    for (w = 0; w < vm_n_watched; w++) {
        const u64 at = vm_given.watched[w] - address;

        is_wrong = is_wrong || (at < expected->length && !is_right(number, w, address));
        lacks = lacks || lacks_mapping(number, w, address, expected->length);
    }
    if (lacks || lacks_look_up(is_wrong)) {
        vm_violate(VM(FAULT_REPORTED));
    }
}

static struct vv_call call_subject(unsigned number)
{
    struct vv_call call = {0};

    vm_qemu_begin(&call, number);
    vfio_verify_entry(&call);
    return call;
}

#if VM_CALLS > 1

/* Another call after the first one. What it does wrong is REPEATABLE's, unless a call by itself does it too. */
static void call_again(const struct vv_call *first, const struct vm_expected *before)
{
    const struct vm_expected expected = vm_expect(1);
    const bool lives = first->mapped && !before->refusals && !vm_given.end_first;
    struct vm_watched kept[VM_WATCHED];
    struct vv_call second;
    unsigned w;

    if (first->mapped && vm_given.end_first) {
        vm_end((u64)first->address, before->length);
    }
    for (w = 0; w < vm_n_watched; w++) {
        vm_page[w].freed = vm_page[w].window = vm_page[w].excused = false;
        kept[w] = vm_page[w];
    }
    vm_next_call();
    vm_before = vm_violated;
    vm_violated = 0;
    vm_is_second = true;
    second = call_subject(1);
    judge_answer(&second, &expected);
    for (w = 0; w < vm_n_watched; w++) {
        if (lives && vm_given.watched[w] - (u64)first->address < before->length) {
            if (kept[w].state != vm_page[w].state || kept[w].memory != vm_page[w].memory
                || kept[w].zero != vm_page[w].zero || kept[w].prot != vm_page[w].prot) {
                vm_violate(VM(REPEATABLE));
            }
            if (second.mapped && vm_given.watched[w] - (u64)second.address < expected.length) {
                vm_violate(VM(REPEATABLE));
            }
        } else {
            judge_page(1, w, kept[w].own, second.mapped, (u64)second.address, &expected);
        }
    }
    vm_again = vm_violated;
    vm_violated = vm_before;
}

#endif

void vm_run(void)
{
    const struct vm_expected expected = vm_expect(0);
    struct vv_call call;
    unsigned w;

    vm_violated = vm_again = vm_before = 0;
    vm_is_second = false;
    vm_kernel_begin();
    vm_qemu_build();
    call = call_subject(0);
    judge_answer(&call, &expected);
    judge_fault(0, &call, &expected);
    for (w = 0; w < vm_n_watched; w++) {
        judge_page(0, w, false, call.mapped, (u64)call.address, &expected);
    }
#if VM_CALLS > 1
    if (vm_given.second) {
        call_again(&call, &expected);
    }
#endif
}
