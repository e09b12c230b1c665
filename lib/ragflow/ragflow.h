/*
 * Drivers for document collections, by the `api` that the configuration names.
 */
#ifndef RAGFLOW_RAGFLOW_H
#define RAGFLOW_RAGFLOW_H

#include "driver/driver.h"

/* NULL for an api without a driver. */
const struct driver_class *ragflow_driver(const char *api);

#endif
