package topology

import (
	"regexp"
	"strings"
)

// sasl is how a kafka client names itself, by itself or through a guard; nil where it does not, or where that is reported.
func (c *compiler) sasl(spec *kafkaClient, secured bool) *SASL {
	o := &spec.Options
	values, of := o.SASL.values, &inlineGuard{}
	var name text
	switch {
	case len(o.Authorization) == 0 && !o.SASL.given:
		return nil
	case len(o.Authorization) > 1:
		second := o.Authorization[1].name
		c.report.problem(second.position, "%s: a kafka client has one identity, and so one guard; remove the others", second.place.key(second.value))
		return nil
	case len(o.Authorization) == 1:
		name = o.Authorization[0].name
		if o.SASL.given {
			c.report.problem(name.position, "%s: `options.sasl` says already who the client is; remove one of them", name.place)
			return nil
		}
		values = o.Authorization[0].value.Credentials.saslValues
		if of = c.inlineGuard(name); of == nil {
			return nil
		}
	}
	return c.saslOf(values, name.value, secured, func(t text) string {
		if !name.given {
			return t.value
		}
		return c.filled(t, name, of)
	})
}

// inlineGuard is a guard by its name, which knows an identity without a caller. It is nil where there is none, which is reported.
func (c *compiler) inlineGuard(name text) *inlineGuard {
	c.guarding[name.value] = true
	g, ok := c.doc.Guards.get(name.value)
	if !ok {
		c.report.problem(name.position, "%s names guard `%s`, which does not exist%s", name.place, name.value, hint(name.value, c.doc.Guards.names()))
		return nil
	}
	switch spec := g.spec.(type) {
	case *inlineGuard:
		return spec
	case callerGuard:
		c.report.problem(name.position, "%s: guard `%s` of type %s tells who calls, and the program names itself to the brokers; use a guard of type inline",
			name.place, name.value, spec.kind())
	}
	return nil
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// filled is a text with what a guard knows in place of {identity} and {credentials}. Only what the file itself says is looked at:
// a variable may hold such a text by accident.
func (c *compiler) filled(t, name text, of *inlineGuard) string {
	known := map[string]text{"{identity}": of.Options.Identity, "{credentials}": of.Options.Credentials}
	var pairs []string
	for _, found := range placeholder.FindAllString(expression.ReplaceAllString(t.raw, ""), -1) {
		value, ok := known[found]
		option := strings.Trim(found, "{}")
		switch {
		case !ok:
			c.report.problem(t.position, "%s: `%s` is unknown; a guard has {identity} and {credentials}", t.place, found)
		case !value.given:
			c.report.problem(t.position, "%s: guard `%s` has no `options.%s`; add it there", t.place, name.value, option)
		}
		pairs = append(pairs, found, value.value)
	}
	return strings.NewReplacer(pairs...).Replace(t.value)
}

// unused warns of guards and stores that nothing refers to.
func (c *compiler) unused() {
	for _, g := range c.doc.Guards {
		if !c.guarding[g.name.value] && g.value.spec != nil {
			c.report.warn(g.name.position, "%s is not used: nothing refers to it", g.value.place)
		}
	}
	for _, s := range c.doc.Stores {
		c.report.warn(s.name.position, "%s is not used: nothing here keeps anything in a store", s.name.place.key(s.name.value))
	}
}
