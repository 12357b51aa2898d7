package topology

import (
	"regexp"
	"strings"
)

// maxExpressions bounds the expressions of one value.
const maxExpressions = 100

var (
	expression  = regexp.MustCompile(`\$\{\{\s*(.*?)\s*\}\}`)
	environment = regexp.MustCompile(`^env\.([A-Za-z_][A-Za-z0-9_]*)$`)
)

// expand replaces each ${{env.NAME}} of a scalar by the variable's value. It works on parsed scalars and once
// only, so a value can neither change the structure of the file nor name another variable.
func (d *decoder) expand(at position, p place, raw string) (string, bool) {
	if !strings.Contains(raw, "${{") {
		return raw, true
	}
	if strings.Count(raw, "${{") > maxExpressions {
		d.report.problem(at, "%s has more than %d expressions", p, maxExpressions)
		return "", false
	}
	ok := true
	expanded := expression.ReplaceAllStringFunc(raw, func(found string) string {
		inner := expression.FindStringSubmatch(found)[1]
		name := environment.FindStringSubmatch(inner)
		if name == nil {
			d.report.problem(at, "unknown expression `%s` in %s; only ${{env.NAME}} is known", found, p)
			ok = false
			return ""
		}
		value, set := d.lookup(name[1])
		if !set {
			d.report.problem(at, "environment variable `%s` is not set; %s needs it", name[1], p)
			ok = false
		}
		return value
	})
	if strings.Contains(expression.ReplaceAllString(raw, ""), "${{") {
		d.report.problem(at, "`${{` without `}}` in %s; write ${{env.NAME}}", p)
		return "", false
	}
	return expanded, ok
}
