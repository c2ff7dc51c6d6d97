/* violates: SURVIVES | forks into a session of its own, and kills the process that started it */
/* the sandbox refuses it */

#include "hostile.h"

static void deed(void)
{
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            pause();
        }
        pause();
    }
    usleep(20000);
    kill(getppid(), SIGKILL);
    pause();
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
