#ifndef QUIRE_H
#define QUIRE_H
#include "quire/config.h"
#include "quire/engine.h"
#include "quire/limits.h"
#include "quire/plan.h"
#include "quire/stats.h"
#include "quire/types.h"
#include "quire/version.h"
#endif
