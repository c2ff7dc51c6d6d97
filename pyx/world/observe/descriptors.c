/*
 * Whose a descriptor is. What was open before the subject's call is not the subject's; what is open after it and was
 * not before is, however it was opened. A look costs one system call: poll(2) says which numbers are not open.
 *
 * Nothing here allocates.
 *
 * SPDX-License-Identifier: MIT
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "base/base.h"
#include "observe/observe.h"

#define MAX_FDS 4096                /* in a worker the limit is lower: confine/worker.c */
#define MARGIN 32                   /* of numbers that are not open, after the last one looked at */

struct fd_set_of { u64 words[MAX_FDS / 64]; };

static struct fd_set_of foreign, before;    /* not the subject's; open when the call began */
static struct fd_set_of lent;               /* closed by the world for a while: whose it is says who has it open */
static uint8_t holder[MAX_FDS];             /* 1 + the thread whose call opened it, where that was seen */
static u64 bound = 2 * MARGIN;              /* how many numbers are looked at */

static bool has(const struct fd_set_of *set, u64 fd) { return set->words[fd / 64] >> fd % 64 & 1; }
static void put(struct fd_set_of *set, u64 fd) { set->words[fd / 64] |= 1ull << fd % 64; }
static void drop(struct fd_set_of *set, u64 fd) { set->words[fd / 64] &= ~(1ull << fd % 64); }

static bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

/* Adds those of [from, to) that are open. */
static void look_at(struct fd_set_of *set, u64 from, u64 to)
{
    static struct pollfd fds[MAX_FDS];
    u64 i;

    for (i = from; i < to; i++) {
        fds[i] = (struct pollfd){.fd = (int)i};
    }
    if (poll(fds + from, to - from, 0) < 0) {       /* the subject may have lowered the limit, which bounds this too */
        for (i = from; i < to; i++) {
            fds[i].revents = is_open((int)i) ? 0 : POLLNVAL;
        }
    }
    for (i = from; i < to; i++) {
        if (!(fds[i].revents & POLLNVAL)) {
            put(set, i);
        }
    }
}

/* The kernel hands out the lowest free number. Beyond a margin of free ones lie only descriptors that were asked for by
 * their number, of which vv_fd_opened() is told. */
static void look(struct fd_set_of *set)
{
    u64 done, i, free_numbers = 0;

    memset(set, 0, sizeof(*set));
    for (done = 0; free_numbers < MARGIN && done < MAX_FDS; done = bound) {
        bound = bound <= done ? done + MARGIN : bound;
        look_at(set, done, bound < MAX_FDS ? bound : MAX_FDS);
        for (i = done; i < bound && i < MAX_FDS; i++) {
            free_numbers = has(set, i) ? 0 : free_numbers + 1;
        }
    }
}

void vv_fds_begin(void)
{
    bound = 2 * MARGIN;
    look(&foreign);
    before = foreign;
    memset(&lent, 0, sizeof(lent));
    memset(holder, 0, sizeof(holder));
}

void vv_fds_before_call(void)
{
    look(&before);
}

u64 vv_fds_left(u64 *gone)
{
    struct fd_set_of now;
    u64 i, left = 0;

    look(&now);
    *gone = 0;
    for (i = 0; i < MAX_FDS / 64; i++) {
        left += (u64)__builtin_popcountll(now.words[i] & ~before.words[i]);
        *gone += (u64)__builtin_popcountll(foreign.words[i] & ~now.words[i]);
    }
    return left;
}

void vv_fds_release(void)
{
    struct fd_set_of now;
    u64 i;

    look(&now);
    for (i = 0; i < MAX_FDS; i++) {
        if (has(&now, i) && !has(&foreign, i)) {
            syscall(SYS_close, (int)i);
        }
    }
    memset(holder, 0, sizeof(holder));
}

u64 vv_fds_open_from(u64 first)
{
    const u64 end = bound + MARGIN < MAX_FDS ? bound + MARGIN : MAX_FDS;

    while (first < end && !is_open((int)first)) {
        first++;
    }
    return first < end ? first : VV_NONE;
}

bool vv_fd_is_foreign(int fd)
{
    if (fd < 0 || fd >= MAX_FDS) {
        return false;
    }
    return has(&foreign, (u64)fd) || (has(&lent, (u64)fd) && !is_open(fd))
           || (holder[fd] && holder[fd] != 1 + vv_calls.thread);
}

int vv_fd_opened(int fd)
{
    if (fd >= 0 && fd < MAX_FDS) {
        holder[fd] = (uint8_t)(1 + vv_calls.thread);
        bound = (u64)fd + 1 + MARGIN > bound ? (u64)fd + 1 + MARGIN : bound;
    }
    return fd;
}

void vv_fd_closed(int fd)
{
    if (fd >= 0 && fd < MAX_FDS) {
        holder[fd] = 0;
    }
}

void vv_fd_lend(int fd)
{
    drop(&foreign, (u64)fd);
    put(&lent, (u64)fd);
}

void vv_fd_take_back(int fd)
{
    if (is_open(fd)) {
        vv_fd_opened(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    }
    put(&foreign, (u64)fd);
    drop(&lent, (u64)fd);
}
