/*
 * Drivers for agent workspaces, by the `api` that the configuration names.
 */
#ifndef LANGFLOW_LANGFLOW_H
#define LANGFLOW_LANGFLOW_H

#include "driver/driver.h"

/* NULL for an api without a driver. */
const struct driver_class *langflow_driver(const char *api);

#endif
