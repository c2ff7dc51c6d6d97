/*
 * What this module was built from: a digest that setup.py makes of everything under pyx/. It is read from the file
 * (vfio_verify/campaign/remote.py), so that two machines can be compared whose compilers made different modules of one
 * source.
 */

const char vv_sources[] = "vfio-verify built from:" VV_SOURCES;
