/* violates: SURVIVES | leaves its stack for another, and comes back by a signal that never ends */

#include "../hostile.h"

static void again(int number)
{
    (void)number;
    raw(SYS_tgkill, raw(SYS_getpid, 0, 0, 0, 0, 0, 0), raw(SYS_gettid, 0, 0, 0, 0, 0, 0), SIGUSR1, 0, 0, 0);
}

static void deed(void)
{
    struct sigaction action = {.sa_handler = again, .sa_flags = SA_NODEFER | SA_ONSTACK};

    sigaction(SIGUSR1, &action, NULL);
    again(0);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
