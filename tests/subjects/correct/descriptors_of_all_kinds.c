/* conforms | opens descriptors in every way there is, and closes each */

#include "../broken/helper.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void close_all(int *fds, int n)
{
    while (n-- > 0) {
        if (fds[n] >= 0) {
            close(fds[n]);
        }
    }
}

/* None of these is needed, and none that cannot be had is missed. */
static void open_and_close(int device)
{
    int ends[4] = { -1, -1, -1, -1 };
    int fds[] = {
        eventfd(0, EFD_CLOEXEC), memfd_create("own", MFD_CLOEXEC),
        timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC),
        epoll_create1(EPOLL_CLOEXEC), open("/dev/null", O_RDONLY | O_CLOEXEC),
        syscall(SYS_dup, device), fcntl(device, F_DUPFD_CLOEXEC, 100),
        fcntl(device, F_DUPFD, 0),
    };
    int last;

    if (pipe(ends) < 0) {
        ends[0] = ends[1] = -1;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends + 2) < 0) {
        ends[2] = ends[3] = -1;
    }
    close_all(fds, ARRAY_SIZE(fds));
    close_all(ends, ARRAY_SIZE(ends));
    /* Two that become one. */
    fds[0] = eventfd(0, EFD_CLOEXEC);
    fds[1] = eventfd(0, EFD_CLOEXEC);
    if (fds[0] >= 0 && fds[1] >= 0) {
        dup2(fds[0], fds[1]);
    }
    close_all(fds, 2);
    last = eventfd(0, EFD_CLOEXEC);
    if (last >= 0) {
        close_range(last, last, 0);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    open_and_close(source.fd);
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
