/*
 * QEMU's VFIO devices and regions, and virtio-gpu's blob resource: the fields that dmabuf helpers
 * touch, in a layout of the world's own.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_VFIO_H
#define VFIO_VERIFY_VFIO_H

#include "vfio_verify/memory.h"

/* ---- the kernel's interface, where the system's headers lack it --------------------------------- */

#ifndef VFIO_VERIFY_HAVE_LINUX_VFIO_H
#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_region_info
struct vfio_region_info {
    __u32 argsz;
    __u32 flags;
    __u32 index;
    __u32 cap_offset;
    __u64 size;
    __u64 offset;
};
#endif

#define VFIO_REGION_INFO_FLAG_READ (1 << 0)
#define VFIO_REGION_INFO_FLAG_WRITE (1 << 1)
#define VFIO_REGION_INFO_FLAG_MMAP (1 << 2)
#define VFIO_REGION_INFO_FLAG_CAPS (1 << 3)

enum {
    VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_BAR1_REGION_INDEX,
    VFIO_PCI_BAR2_REGION_INDEX,
    VFIO_PCI_BAR3_REGION_INDEX,
    VFIO_PCI_BAR4_REGION_INDEX,
    VFIO_PCI_BAR5_REGION_INDEX,
    VFIO_PCI_ROM_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_VGA_REGION_INDEX,
    VFIO_PCI_NUM_REGIONS,
};

#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_info_cap_header
struct vfio_info_cap_header {
    __u16 id;
    __u16 version;
    __u32 next;
};
#endif

#define VFIO_REGION_INFO_CAP_SPARSE_MMAP 1

#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_region_sparse_mmap_area
struct vfio_region_sparse_mmap_area {
    __u64 offset;
    __u64 size;
};
#endif

#if !defined(VFIO_VERIFY_SOURCE_DEFINES_vfio_region_info_cap_sparse_mmap) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_vfio_info_cap_header) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_vfio_region_sparse_mmap_area)
struct vfio_region_info_cap_sparse_mmap {
    struct vfio_info_cap_header header;
    __u32 nr_areas;
    __u32 reserved;
    struct vfio_region_sparse_mmap_area areas[];
};
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_device_feature
struct vfio_device_feature {
    __u32 argsz;
    __u32 flags;
    __u8 data[];
};
#endif

#define VFIO_DEVICE_FEATURE_GET (1 << 16)
#define VFIO_DEVICE_FEATURE_SET (1 << 17)
#define VFIO_DEVICE_FEATURE_PROBE (1 << 18)
#endif

/* In the kernel's headers from Linux 4.16 on. */
#ifndef VFIO_REGION_INFO_CAP_MSIX_MAPPABLE
#define VFIO_REGION_INFO_CAP_MSIX_MAPPABLE 3
#endif

/* In the kernel's headers from Linux 6.19 on. */
#ifndef VFIO_DEVICE_FEATURE_DMA_BUF
#define VFIO_DEVICE_FEATURE_DMA_BUF 11

#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_region_dma_range
struct vfio_region_dma_range {
    __u64 offset;
    __u64 length;
};
#endif

#if !defined(VFIO_VERIFY_SOURCE_DEFINES_vfio_device_feature_dma_buf) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_vfio_region_dma_range)
struct vfio_device_feature_dma_buf {
    __u32 region_index;
    __u32 open_flags;
    __u32 flags;
    __u32 nr_ranges;
    struct vfio_region_dma_range dma_ranges[];
};
#endif

#endif

/* ---- devices -------------------------------------------------------------------------------------- */

struct vfio_region_info;
struct vfio_info_cap_header;
struct VFIODevice;
struct VFIOGroup;
struct VFIORegion;
struct VFIOMmap;
struct VFIODeviceOps;
struct VFIOContainer;

#ifndef VFIO_VERIFY_SOURCE_DEFINES_VFIO_DEVICE_TYPE_PCI
#define VFIO_DEVICE_TYPE_PCI 0
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_VFIODeviceOps
typedef struct VFIODeviceOps VFIODeviceOps;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_VFIOContainer
typedef struct VFIOContainer VFIOContainer;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_VFIODevice
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
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_VFIODeviceList
typedef struct VFIODeviceList {     /* QLIST_HEAD(, VFIODevice) */
    struct VFIODevice *lh_first;
} VFIODeviceList;
#endif

/* Every device, linked by global_next. */
#if !defined(VFIO_VERIFY_SOURCE_DEFINES_vfio_device_list) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_VFIODeviceList)
extern VFIODeviceList vfio_device_list;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_VFIOGroup
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
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_VFIOGroupList
typedef struct VFIOGroupList {      /* QLIST_HEAD(, VFIOGroup), linked by next */
    struct VFIOGroup *lh_first;
} VFIOGroupList;
#endif

#if !defined(VFIO_VERIFY_SOURCE_DEFINES_vfio_group_list) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_VFIOGroupList)
extern VFIOGroupList vfio_group_list;
#endif

#if !defined(VFIO_VERIFY_SOURCE_DEFINES_VFIOPCIDevice) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_VFIODevice) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_PCIDevice) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_DeviceState) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_Object)
typedef struct VFIOPCIDevice {
    PCIDevice parent_obj;
    VFIODevice vbasedev;
} VFIOPCIDevice;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_TYPE_VFIO_PCI
#define TYPE_VFIO_PCI "vfio-pci"
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_TYPE_VFIO_PCI_BASE
#define TYPE_VFIO_PCI_BASE "vfio-pci-base"
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_TYPE_VFIO_PCI_DEVICE
#define TYPE_VFIO_PCI_DEVICE "vfio-pci-device"
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_VFIO_PCI
#define VFIO_PCI(object) VFIO_VERIFY_CAST(struct VFIOPCIDevice, object, "vfio-pci")
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_VFIO_PCI_BASE
#define VFIO_PCI_BASE(object) VFIO_VERIFY_CAST(struct VFIOPCIDevice, object, "vfio-pci-base")
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_VFIO_PCI_DEVICE
#define VFIO_PCI_DEVICE(object) VFIO_VERIFY_CAST(struct VFIOPCIDevice, object, "vfio-pci-device")
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_pci_from_vfio_device
struct VFIOPCIDevice *vfio_pci_from_vfio_device(struct VFIODevice *vbasedev);
#endif

/* ---- regions ---------------------------------------------------------------------------------------- */

/* One area of a region that is mapped into the guest; its RAMBlock is mem.ram_block. */
#if !defined(VFIO_VERIFY_SOURCE_DEFINES_VFIOMmap) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_MemoryRegion) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_Object) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_Int128)
typedef struct VFIOMmap {
    MemoryRegion mem;               /* in the region's mem, at offset */
    void *mmap;
    off_t offset;                   /* from the start of the region */
    size_t size;                    /* bytes */
} VFIOMmap;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_VFIORegion
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
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_region_ops
extern const struct MemoryRegionOps vfio_region_ops;
#endif

/* -1 where there is none. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_get_region_index_from_mr
int vfio_get_region_index_from_mr(struct MemoryRegion *mr);
#endif

/* NULL where there is none. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_get_region_from_mr
struct VFIORegion *vfio_get_region_from_mr(struct MemoryRegion *mr);
#endif

/* 0, or a negative errno and *info = NULL. What it gives belongs to the device, and is not to be freed,
 * for the first num_initial_regions regions; beyond those it is new each time, and the caller's. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_device_get_region_info
int vfio_device_get_region_info(struct VFIODevice *vbasedev, int index, struct vfio_region_info **info);
#endif

/* The capability of that kind, or NULL. Regions with holes between their areas have the sparse one, unless it is only the
 * MSI-X table that QEMU leaves out. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_get_region_info_cap
struct vfio_info_cap_header *vfio_get_region_info_cap(struct vfio_region_info *info, uint16_t id);
#endif

/* The descriptor through which a region is mapped: its own, or the device's; -1 where there is none. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_device_get_region_fd
int vfio_device_get_region_fd(struct VFIODevice *vbasedev, int index);
#endif

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

#ifndef VFIO_VERIFY_SOURCE_DEFINES_vfio_device_lookup
#define VFIO_VERIFY_FIFTH(a, b, c, d, e, ...) e
#define vfio_device_lookup(...)                                                             \
    VFIO_VERIFY_FIFTH(__VA_ARGS__, vfio_verify_device_lookup_4, vfio_verify_device_lookup_3, \
                      vfio_device_lookup_of_2_arguments, vfio_verify_device_lookup_1, 0)    \
    (__VA_ARGS__)
#endif

/* ---- virtio-gpu's blob resource --------------------------------------------------------------------- */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_virtio_gpu_simple_resource
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

#endif
