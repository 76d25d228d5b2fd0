/* each_level.h - include BODY, a `*_body.h`, once for each instruction set; see level.h.  Not guarded:
 * a file that has several bodies includes this once for each. */
#define LEVEL 0
#include BODY
#undef LEVEL
#if MAPIX_LEVELS > 1
#define LEVEL 1
#include BODY
#undef LEVEL
#define LEVEL 2
#include BODY
#undef LEVEL
#endif
#undef BODY
