/* violates: SURVIVES | writes over the variables of the world */

#include "hostile.h"

static void scribble(char *start, size_t length)
{
    /* Byte by byte: a sanitizer would look at what memset() is to write. */
    for (volatile char *at = start; at < start + length; at++) {
        *at = (char)0xa5;
    }
}

static void deed(void)
{
    visit_maps("/_worker", scribble);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
