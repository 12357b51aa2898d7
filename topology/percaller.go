package topology

import (
	"regexp"
	"slices"
	"strings"
)

// perCaller is text that may depend on who calls.
type perCaller struct {
	text
	parts []CallerPart // none: it is the same for every call
}

var ofCaller = regexp.MustCompile(`\$\{guarded\['([^'{}]+)'\]\.(?:identity|attributes\.([A-Za-z0-9_.-]+))\}`)

func (*perCaller) regexp() string { return "." }

func (p *perCaller) parse(value string) string {
	if value == "" {
		return "must not be empty"
	}
	p.parts = nil
	end, plain := 0, ""
	for _, found := range ofCaller.FindAllStringSubmatchIndex(value, -1) {
		before := value[end:found[0]]
		plain += before
		if before != "" {
			p.parts = append(p.parts, CallerPart{Text: before})
		}
		part := CallerPart{Guard: value[found[2]:found[3]]}
		if found[4] >= 0 {
			part.Attribute = value[found[4]:found[5]]
		}
		p.parts = append(p.parts, part)
		end = found[1]
	}
	if rest := value[end:]; rest != "" && p.parts != nil {
		p.parts = append(p.parts, CallerPart{Text: rest})
	}
	if plain += value[end:]; strings.Contains(plain, "${") {
		return "must be the same for every call, or have ${guarded['NAME'].identity} or ${guarded['NAME'].attributes.X}"
	}
	return ""
}

// depends reports what guards must know for the text, where it depends on who calls.
func (p *perCaller) depends(c *compiler) bool {
	for _, part := range p.parts {
		if part.Guard == "" {
			continue
		}
		name := p.text
		name.value = part.Guard
		g := c.caller(name, "")
		if g == nil || part.Attribute == "" {
			continue
		}
		if !slices.Contains(g.attributeNames(), part.Attribute) {
			c.report.problem(p.position, "%s: guard `%s` has no attribute `%s`%s", p.place, g.Name, part.Attribute, hint(part.Attribute, g.attributeNames()))
		}
	}
	return p.parts != nil
}

func (g *Guard) attributes() []Attribute {
	if g.X509 != nil {
		return g.X509.Attributes
	}
	return g.JWT.Attributes
}

func (g *Guard) attributeNames() []string {
	return each(g.attributes(), func(a Attribute) string { return a.Name })
}
