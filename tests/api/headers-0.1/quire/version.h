#ifndef QUIRE_VERSION_H
#define QUIRE_VERSION_H
#include "quire/api.h"
#define QUIRE_VERSION_MAJOR 0
#define QUIRE_VERSION_MINOR 1
#define QUIRE_VERSION_PATCH 0
QUIRE_API uint32_t quire_version(void);
QUIRE_API const char *quire_build_info(void);
#endif
