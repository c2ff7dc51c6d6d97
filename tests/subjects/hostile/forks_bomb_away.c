/* violates: NO_LEAK | forks 26 children into sessions of their own, which live on */
/* the sandbox refuses it */

#include "hostile.h"

static void deed(void)
{
    const pid_t first = getpid();
    int i;

    for (i = 0; i < 3; i++) {
        if (fork() == 0) {
            setsid();
            fork();
        }
    }
    if (getpid() != first) {
        for (;;) {
            pause();
        }
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
