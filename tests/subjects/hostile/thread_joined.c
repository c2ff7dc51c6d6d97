/* conforms | has a thread check something, and joins it */

#include "hostile.h"

static void *check(void *number)
{
    FILE *stream = fopen("/dev/null", "w");

    if (stream) {
        fprintf(stream, "%d", *(int *)number);
        fclose(stream);
    }
    return number;
}

static void deed(void)
{
    pthread_t thread;
    int number = 3;

    if (pthread_create(&thread, NULL, check, &number) == 0) {
        pthread_join(thread, NULL);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
