/*
 * What a worker may not do itself, and its parent does for it: forks are granted by it, one at a time, and what /proc
 * says of a thread is opened by it.
 *
 * A step of a sequence forks the worker, to see what a child has of its mappings: the child must be a copy of the
 * worker as it is then, so nobody else can make it. But whatever in a worker's memory opened this way to the world,
 * a subject could find there, and jump to. So the decision lies outside: a filter hands each fork over to the
 * worker's parent (seccomp_unotify(2)), who was told by its owner how many the present request has, and lets no
 * more through, and only those of the worker's first thread. A subject can still take the world's, at the world's
 * place: then the world's own comes as one too many, and the owner is told.
 *
 * All else that makes a process is refused by the list in worker.c.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/base.h"
#include "confine/confine.h"
#include "confine/rules.h"

union one_descriptor { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; };

/* A message of one byte, with a descriptor or without one. */
static int send_descriptor(int socket, int fd, int flags)
{
    union one_descriptor control = {0};
    char byte = 0;
    struct iovec one = {&byte, 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1};
    struct cmsghdr *header;

    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control.room);
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof(int));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL | flags) == 1 ? 0 : -1;
}

/* -1: the message had none, or the other side is gone. */
static int receive_descriptor(int socket)
{
    union one_descriptor control = {0};
    char byte;
    struct iovec one = {&byte, 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof(control.room)};
    struct cmsghdr *header;
    int fd = -1;
    ssize_t got;

    do {
        got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    header = got == 1 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int))) {
        memcpy(&fd, CMSG_DATA(header), sizeof(int));
    }
    return fd;
}

int vv_oversee_hand_over(int socket, int listener) { return send_descriptor(socket, listener, 0); }

/* ---- what /proc says of a thread ---------------------------------------------------------------------------- */

static int overseer = -1;
static char asking;                 /* lock: a question and its answer belong together */

void vv_oversee_by(int socket)
{
    overseer = socket;
}

int vv_oversee_stat(pid_t thread)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)thread);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && overseer >= 0) {
        vv_spin_lock(&asking);
        if (send(overseer, &thread, sizeof(thread), MSG_NOSIGNAL) == sizeof(thread)) {
            fd = receive_descriptor(overseer);
        }
        vv_spin_unlock(&asking);
    }
    return fd;
}

/* The worker asks for a thread's. It gets nothing that it does not ask for in time, and nothing of another process. */
static void answer_stat(int socket, pid_t worker, pid_t thread)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)worker, (int)thread);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    send_descriptor(socket, fd, MSG_DONTWAIT);
    if (fd >= 0) {
        close(fd);
    }
}

/* ---- forks -------------------------------------------------------------------------------------------------- */

bool vv_say(int socket, int64_t kind, int64_t value)
{
    const struct { int64_t kind, value; } notice = {kind, value};

    return send(socket, &notice, sizeof(notice), MSG_NOSIGNAL) == sizeof(notice);
}

#if defined(SECCOMP_IOCTL_NOTIF_RECV) && defined(SECCOMP_USER_NOTIF_FLAG_CONTINUE)

#define WAIT_KILLABLE (1u << 5)     /* SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: no signal has the call made again */
#define NOTICE_BYTES 512            /* more than any kernel's struct seccomp_notif */

int vv_oversee_install(void)
{
    int listener;

    vv_filter_begin();
    vv_filter_when(SYS_clone, 3);
    vv_filter_load(VV_ARGUMENT(0));
    vv_filter_when(SIGCHLD, 1);
    vv_filter_answer(SECCOMP_RET_USER_NOTIF);
    vv_filter_answer(SECCOMP_RET_ALLOW);
    listener = vv_filter_install(SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE);
    return listener >= 0 ? listener : vv_filter_install(SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

/* One fork is asked for. It is let through, or fails as at the limit of processes. The owner is told before that, since
 * the worker may answer as soon as it goes on. */
static void decide(struct vv_worker *worker, int control)
{
    union { struct seccomp_notif notice; char room[NOTICE_BYTES]; } asked;
    union { struct seccomp_notif_resp answer; char room[NOTICE_BYTES]; } answered;

    memset(&asked, 0, sizeof(asked));
    memset(&answered, 0, sizeof(answered));
    if (ioctl(worker->listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) < 0) {
        return;                     /* it has ended meanwhile */
    }
    answered.answer.id = asked.notice.id;
    if (worker->granted.forks > 0 && (pid_t)asked.notice.pid == worker->pid) {
        worker->granted.forks--;
        answered.answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    } else {
        answered.answer.error = -EAGAIN;
        if (worker->granted.any && !worker->granted.told) {
            vv_say(control, VV_FORKED, worker->pid);
            worker->granted.told = true;
        }
    }
    ioctl(worker->listener, SECCOMP_IOCTL_NOTIF_SEND, &answered);
}

#else

int vv_oversee_install(void)
{
    errno = ENOSYS;
    return -1;
}

static void decide(struct vv_worker *worker, int control)
{
    (void)worker, (void)control;
}

#endif

/* ---- the parent's loop ---------------------------------------------------------------------------------------- */

/* Newer than some headers. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

void vv_oversee_take_over(struct vv_worker *worker)
{
    worker->listener = receive_descriptor(worker->socket);
    worker->end = (int)syscall(SYS_pidfd_open, worker->pid, 0);
}

void vv_oversee_close(const struct vv_worker *worker)
{
    const int held[] = {worker->socket, worker->listener, worker->end};
    unsigned i;

    for (i = 0; i < sizeof(held) / sizeof(held[0]); i++) {
        if (held[i] >= 0) {
            close(held[i]);
        }
    }
}

/* What the owner said: grants, before the worker is asked, which are heard before the worker is answered; and once that
 * the worker is to begin, which nothing was granted to before. The owner is told first which one that is. */
static enum vv_overseen hear_owner(struct vv_worker *worker, int control)
{
    struct vv_grant grant;
    ssize_t got;

    while ((got = recv(control, &grant, sizeof(grant), MSG_DONTWAIT)) > 0) {
        worker->granted.forks = got == sizeof(grant) ? grant.forks : 0;
        worker->granted.any = worker->granted.forks > 0;
        worker->granted.told = false;
        if (got != sizeof(grant) && !worker->has_begun) {
            worker->has_begun = true;
            if (!vv_say(control, VV_STARTED, worker->pid)) {
                return VV_OWNER_GONE;
            }
            (void)!send(worker->socket, "b", 1, MSG_NOSIGNAL);
            return VV_BEGINS;
        }
    }
    return got == 0 ? VV_OWNER_GONE : VV_GOES_ON;
}

enum vv_overseen vv_oversee(struct vv_worker *worker, int control)
{
    enum { END, FORK, STAT, OWNER, SOURCES };
    struct pollfd watched[SOURCES] = {
        [END] = {.fd = worker->end, .events = POLLIN},
        [FORK] = {.fd = worker->listener, .events = POLLIN},
        [STAT] = {.fd = worker->socket, .events = POLLIN},
        [OWNER] = {.fd = control, .events = POLLIN},
    };
    enum vv_overseen heard;
    pid_t thread;

    /* A kernel before 5.3 does not tell of a process's end like this: then nothing is decided once it has begun. */
    while (!watched[END].revents && (worker->end >= 0 || !worker->has_begun)) {
        if (poll(watched, SOURCES, -1) < 0) {
            continue;
        }
        heard = hear_owner(worker, control);
        if (heard != VV_GOES_ON) {
            return heard;
        }
        if (watched[FORK].revents & POLLIN) {
            decide(worker, control);
        } else if (watched[FORK].revents) {
            watched[FORK].fd = -1;          /* the worker has ended */
        }
        if (watched[STAT].revents & POLLIN) {
            if (recv(worker->socket, &thread, sizeof(thread), MSG_DONTWAIT) == sizeof(thread)) {
                answer_stat(worker->socket, worker->pid, thread);
            }
        }
        if (watched[STAT].revents & (POLLHUP | POLLERR)) {
            watched[STAT].fd = -1;
        }
    }
    return VV_ENDS;
}
