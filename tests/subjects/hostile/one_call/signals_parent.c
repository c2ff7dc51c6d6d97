/* conforms | sends signals to its parent by every call that can; none arrives */

#include "../hostile.h"

#include <sys/syscall.h>

static void deed(void)
{
    const long parent = raw(SYS_getppid, 0, 0, 0, 0, 0, 0);
    struct { int signo, error, code, fill; long rest[14]; } info = {SIGKILL, 0, -1, 0, {0}};
    struct { int type, pid; } owner = {1, (int)parent};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGKILL};
    int fd, timer;

    raw(SYS_kill, parent, SIGKILL, 0, 0, 0, 0);
    raw(SYS_kill, -1, SIGKILL, 0, 0, 0, 0);
    raw(SYS_kill, -parent, SIGKILL, 0, 0, 0, 0);
    raw(SYS_tgkill, parent, parent, SIGKILL, 0, 0, 0);
    raw(SYS_tkill, parent, SIGKILL, 0, 0, 0, 0);
    raw(SYS_rt_sigqueueinfo, parent, SIGKILL, (long)&info, 0, 0, 0);
    raw(SYS_rt_tgsigqueueinfo, parent, parent, SIGKILL, (long)&info, 0, 0);
    event._sigev_un._tid = (int)parent;
    if (raw(SYS_timer_create, CLOCK_MONOTONIC, (long)&event, (long)&timer, 0, 0, 0) == 0) {
        *(volatile int *)NULL = 1;
    }
    for (fd = 0; fd < 64; fd++) {
        raw(SYS_fcntl, fd, F_SETOWN, parent, 0, 0, 0);
        raw(SYS_fcntl, fd, 15 /* F_SETOWN_EX */, (long)&owner, 0, 0, 0);
        raw(SYS_fcntl, fd, 10 /* F_SETSIG */, SIGKILL, 0, 0, 0);
        raw(SYS_fcntl, fd, F_SETLEASE, F_WRLCK, 0, 0, 0);
        raw(SYS_ioctl, fd, 0x8901 /* FIOSETOWN */, (long)&parent, 0, 0, 0);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
