/* conforms | has a constructor that starts a thread for good */

#include "hostile.h"

static void *sleep_on(void *unused)
{
    for (;;) {
        pause();
    }
    return unused;
}

static void deed(void)
{
}

__attribute__((constructor)) static void at_load(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, sleep_on, NULL);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    (void)at_load;
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
