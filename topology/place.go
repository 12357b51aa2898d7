package topology

import "strconv"

// place names a value for people: `options.port` of binding `x`.
type place struct{ owner, path string }

func (p place) String() string {
	switch {
	case p.path == "" && p.owner == "":
		return "the file"
	case p.path == "":
		return p.owner
	case p.owner == "":
		return "`" + p.path + "`"
	}
	return "`" + p.path + "` of " + p.owner
}

func (p place) key(name string) place {
	if p.path != "" {
		name = p.path + "." + name
	}
	return place{p.owner, name}
}

func (p place) index(i int) place { return place{p.owner, p.path + "[" + strconv.Itoa(i) + "]"} }

// located structs learn where their key or list entry stands.
type located interface{ locate(at position, p place) }

// spot is embedded by structs that take part in messages.
type spot struct {
	at    position
	place place
}

func (s *spot) locate(at position, p place) { s.at, s.place = at, p }
