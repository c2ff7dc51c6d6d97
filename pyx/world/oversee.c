/*
 * Forks of a worker are granted by its parent, one at a time.
 *
 * A step of a sequence forks the worker, to see what a child has of its mappings: the child must be a copy of the
 * worker as it is then, so nobody else can make it. But whatever in a worker's memory opened this way to the world,
 * a subject could find there, and jump to. So the decision lies outside: a filter hands each fork over to the
 * worker's parent (seccomp_unotify(2)), who was told by its owner how many the present request has, and lets no
 * more through, and only those of the worker's first thread. A subject can still take the world's, at the world's
 * place: then the world's own comes as one too many, and the owner is told.
 *
 * All else that makes a process is refused by the list in confine.c.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine.h"
#include "internal.h"
#include "oversee.h"

#if defined(SECCOMP_IOCTL_NOTIF_RECV) && defined(SECCOMP_USER_NOTIF_FLAG_CONTINUE)

/* Newer than some headers. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#define WAIT_KILLABLE (1u << 5)     /* SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: no signal has the call made again */
#define NOTICE_BYTES 512            /* more than any kernel's struct seccomp_notif */

int vv_oversee_install(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SIGCHLD, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    const unsigned int flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | WAIT_KILLABLE, &program);

    return listener >= 0 ? listener : (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

/* One fork is asked for. It is let through, or fails as at the limit of processes. */
static bool decide(int listener, pid_t worker, u64 *left)
{
    union { struct seccomp_notif notice; char room[NOTICE_BYTES]; } asked;
    union { struct seccomp_notif_resp answer; char room[NOTICE_BYTES]; } answered;
    bool granted;

    memset(&asked, 0, sizeof(asked));
    memset(&answered, 0, sizeof(answered));
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) < 0) {
        return true;                /* it has ended meanwhile */
    }
    granted = *left > 0 && (pid_t)asked.notice.pid == worker;
    *left -= granted;
    answered.answer.id = asked.notice.id;
    if (granted) {
        answered.answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    } else {
        answered.answer.error = -EAGAIN;
    }
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answered);
    return granted;
}

void vv_oversee(pid_t worker, int listener, int control, vv_oversee_tell *tell)
{
    struct pollfd watched[3] = {
        {.fd = (int)syscall(SYS_pidfd_open, worker, 0), .events = POLLIN},
        {.fd = listener, .events = POLLIN},
        {.fd = control, .events = POLLIN},
    };
    struct vv_grant grant;
    u64 left = 0;
    bool granting = false, told = false;
    ssize_t got;

    while (watched[0].fd >= 0 && !(watched[0].revents & POLLIN)) {
        if (poll(watched, 3, -1) < 0) {
            if (errno != EINTR) {
                break;
            }
            continue;
        }
        /* What the owner said comes first: it was said before the worker was asked. */
        while ((got = recv(control, &grant, sizeof(grant), MSG_DONTWAIT)) == sizeof(grant)) {
            left = grant.forks;
            granting = left > 0;
            told = false;
        }
        if (got == 0) {
            kill(-worker, SIGKILL);         /* the owner is gone */
            break;
        }
        if (watched[1].revents & POLLIN) {
            if (!decide(listener, worker, &left) && granting && !told) {
                tell(control, worker);
                told = true;
            }
        } else if (watched[1].revents) {
            watched[1].fd = -1;
        }
    }
    if (watched[0].fd >= 0) {
        close(watched[0].fd);
    }
}

#else

int vv_oversee_install(void)
{
    errno = ENOSYS;
    return -1;
}

void vv_oversee(pid_t worker, int listener, int control, vv_oversee_tell *tell)
{
    (void)worker, (void)listener, (void)control, (void)tell;
}

#endif

/* ---- the listener's way from a worker to its parent ------------------------------------------------------ */

union one_descriptor { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; };

int vv_oversee_hand_over(int socket, int listener)
{
    union one_descriptor control = {0};
    char byte = 0;
    struct iovec one = {&byte, 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof(control.room)};
    struct cmsghdr *const header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &listener, sizeof(int));
    return sendmsg(socket, &message, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

int vv_oversee_take_over(int socket)
{
    union one_descriptor control = {0};
    char byte;
    struct iovec one = {&byte, 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof(control.room)};
    struct cmsghdr *header;
    int listener = -1;
    ssize_t got;

    do {
        got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    header = got == 1 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int))) {
        memcpy(&listener, CMSG_DATA(header), sizeof(int));
    }
    return listener;
}
