/* conforms | has a detached thread do something, and waits until it has */

#include "hostile.h"

static void *act(void *done)
{
    __atomic_store_n((int *)done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void deed(void)
{
    pthread_t thread;
    int done = 0;

    if (pthread_create(&thread, NULL, act, &done) == 0) {
        pthread_detach(thread);
        while (!__atomic_load_n(&done, __ATOMIC_SEQ_CST)) {
            usleep(100);
        }
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
