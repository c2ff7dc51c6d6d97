/*
 * QEMU's VFIO devices and regions, and virtio-gpu's blob resource: the fields that dmabuf helpers
 * touch, in a layout of the world's own.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_VFIO_H
#define VFIO_VERIFY_VFIO_H

#include "vfio_verify/memory.h"

/* ---- devices -------------------------------------------------------------------------------------- */

#define VFIO_DEVICE_TYPE_PCI 0

typedef struct VFIODeviceOps VFIODeviceOps;
typedef struct VFIOContainer VFIOContainer;

typedef struct VFIODevice {
    /* Three links: in the group's list, in the container's, and in vfio_device_list. */
    struct {
        struct VFIODevice *le_next;
        struct VFIODevice **le_prev;
    } next, container_next, global_next;
    struct VFIOGroup *group;
    struct VFIOContainer *bcontainer;
    char *sysfsdev;
    char *name;
    struct DeviceState *dev;
    int fd;                         /* -1 where each region has a descriptor of its own */
    int type;
    bool mdev;
    bool reset_works;
    bool needs_reset;
    bool no_mmap;
    bool ram_block_discard_allowed;
    bool use_region_fds;
    const struct VFIODeviceOps *ops;
    unsigned int num_irqs;
    unsigned int num_regions;
    unsigned int num_initial_regions;   /* how many reginfo[] has room for */
    unsigned int flags;
    struct vfio_region_info **reginfo;  /* filled when a region is first asked for */
    int *region_fds;
} VFIODevice;

typedef struct VFIODeviceList {     /* QLIST_HEAD(, VFIODevice) */
    struct VFIODevice *lh_first;
} VFIODeviceList;

/* Every device, linked by global_next. */
extern VFIODeviceList vfio_device_list;

typedef struct VFIOGroup {
    int fd;
    int groupid;
    struct VFIOContainer *container;
    struct {                        /* QLIST_HEAD(, VFIODevice), linked by next */
        struct VFIODevice *lh_first;
    } device_list;
    struct {
        struct VFIOGroup *le_next;
        struct VFIOGroup **le_prev;
    } next, container_next;
    bool ram_block_discard_allowed;
} VFIOGroup;

typedef struct VFIOGroupList {      /* QLIST_HEAD(, VFIOGroup), linked by next */
    struct VFIOGroup *lh_first;
} VFIOGroupList;

extern VFIOGroupList vfio_group_list;

typedef struct VFIOPCIDevice {
    PCIDevice parent_obj;
    VFIODevice vbasedev;
} VFIOPCIDevice;

#define TYPE_VFIO_PCI "vfio-pci"
#define TYPE_VFIO_PCI_BASE "vfio-pci-base"
#define TYPE_VFIO_PCI_DEVICE "vfio-pci-device"
#define VFIO_PCI(object) VFIO_VERIFY_CAST(struct VFIOPCIDevice, object, "vfio-pci")
#define VFIO_PCI_BASE(object) VFIO_VERIFY_CAST(struct VFIOPCIDevice, object, "vfio-pci-base")
#define VFIO_PCI_DEVICE(object) VFIO_VERIFY_CAST(struct VFIOPCIDevice, object, "vfio-pci-device")

struct VFIOPCIDevice *vfio_pci_from_vfio_device(struct VFIODevice *vbasedev);

/* ---- regions ---------------------------------------------------------------------------------------- */

/* One area of a region that is mapped into the guest; its RAMBlock is mem.ram_block. */
typedef struct VFIOMmap {
    MemoryRegion mem;               /* in the region's mem, at offset */
    void *mmap;
    off_t offset;                   /* from the start of the region */
    size_t size;                    /* bytes */
} VFIOMmap;

typedef struct VFIORegion {
    struct VFIODevice *vbasedev;
    off_t fd_offset;                /* of the whole region in its descriptor */
    struct MemoryRegion *mem;
    size_t size;                    /* bytes */
    uint32_t flags;                 /* VFIO_REGION_INFO_FLAG_* */
    uint32_t nr_mmaps;
    struct VFIOMmap *mmaps;
    uint32_t nr;                    /* its index; 8 bits wide in QEMU */
} VFIORegion;

extern const struct MemoryRegionOps vfio_region_ops;

/* -1 where there is none. */
int vfio_get_region_index_from_mr(struct MemoryRegion *mr);

/* NULL where there is none. */
struct VFIORegion *vfio_get_region_from_mr(struct MemoryRegion *mr);

/* 0, or a negative errno and *info = NULL. What it gives belongs to the device, and is not to be freed,
 * for the first num_initial_regions regions; beyond those it is new each time, and the caller's. */
int vfio_device_get_region_info(struct VFIODevice *vbasedev, int index, struct vfio_region_info **info);

/* The capability of that kind, or NULL. Regions with holes between their areas have the sparse one, unless it is only the
 * MSI-X table that QEMU leaves out. */
struct vfio_info_cap_header *vfio_get_region_info_cap(struct vfio_region_info *info, uint16_t id);

/* The descriptor through which a region is mapped: its own, or the device's; -1 where there is none. */
int vfio_device_get_region_fd(struct VFIODevice *vbasedev, int index);

/*
 * The look-up of a device has had three shapes, told apart by the number of arguments:
 *
 *   VFIODevice *vfio_device_lookup(MemoryRegion *mr);
 *   bool vfio_device_lookup(struct iovec *iov, VFIODevice **vbasedev, Error **errp);
 *   bool vfio_device_lookup(struct iovec *iov, VFIODevice **vbasedev, RAMBlock **first_rb, Error **errp);
 *
 * The macro only chooses a name, so that it also leaves a prototype in the sources valid.
 */
struct VFIODevice *vfio_verify_device_lookup_1(struct MemoryRegion *mr);
bool vfio_verify_device_lookup_3(struct iovec *iov, struct VFIODevice **vbasedev, struct Error **errp);
bool vfio_verify_device_lookup_4(struct iovec *iov, struct VFIODevice **vbasedev, struct RAMBlock **first_rb,
                                 struct Error **errp);

#define VFIO_VERIFY_FIFTH(a, b, c, d, e, ...) e
#define vfio_device_lookup(...)                                                             \
    VFIO_VERIFY_FIFTH(__VA_ARGS__, vfio_verify_device_lookup_4, vfio_verify_device_lookup_3, \
                      vfio_device_lookup_of_2_arguments, vfio_verify_device_lookup_1, 0)    \
    (__VA_ARGS__)

/* ---- virtio-gpu's blob resource --------------------------------------------------------------------- */

struct virtio_gpu_simple_resource {
    uint32_t resource_id;
    uint32_t width;
    uint32_t height;
    uint32_t format;
    uint64_t *addrs;                /* guest addresses of the segments; NULL here */
    struct iovec *iov;
    unsigned int iov_cnt;
    uint32_t scanout_bitmask;
    void *image;
    uint64_t hostmem;
    uint64_t blob_size;             /* bytes */
    void *blob;                     /* where the blob is mapped, once it is */
    int dmabuf_fd;
    uint8_t *remapped;
    struct {                        /* QTAILQ_ENTRY(virtio_gpu_simple_resource) */
        struct virtio_gpu_simple_resource *tqe_next;
        struct virtio_gpu_simple_resource **tqe_prev;
    } next;
};

#endif
