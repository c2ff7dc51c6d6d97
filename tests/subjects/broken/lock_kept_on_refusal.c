/* violates: SURVIVES | a refused call returns with the lock held, and the next one waits for it for ever */
/* may violate: REPEATABLE */

#include <pthread.h>
#include "helper.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    pthread_mutex_lock(&lock);
    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        pthread_mutex_unlock(&lock);
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        pthread_mutex_unlock(&lock);
        return false;
    }
    pthread_mutex_unlock(&lock);
    *addr = map;
    return true;
}
