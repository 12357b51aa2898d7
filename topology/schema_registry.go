package topology

import (
	"cmp"
	"regexp"
)

// registryKinds are the types of catalogs that speak the protocol of Confluent's schema registry.
var registryKinds = []string{"schema-registry", "confluent-schema-registry", "karapace", "karapace-schema-registry"}

// registryCatalog holds schemas that another server has.
type registryCatalog struct {
	Type    text `yaml:"type" doc:"what kind of thing it is"`
	Vault   text `yaml:"vault" doc:"the vault with the keys and certificates of tls"`
	Options struct {
		registryOptions
		Context text `yaml:"context" doc:"of the registry, where it has several"`
	} `yaml:"options"`
}

// apicurioKinds are the types of catalogs that speak the protocol of Apicurio's registry.
var apicurioKinds = []string{"apicurio", "apicurio-registry"}

// apicurioCatalog is the same for Apicurio's registry.
type apicurioCatalog struct {
	Type    text `yaml:"type" doc:"what kind of thing it is"`
	Vault   text `yaml:"vault" doc:"the vault with the keys and certificates of tls"`
	Options struct {
		registryOptions
		Group      text `yaml:"group-id" doc:"group of the artifacts that subjects are; without it, default"`
		UseID      text `yaml:"use-id" oneof:"globalId contentId" doc:"which id values have; without it, globalId"`
		IDEncoding text `yaml:"id-encoding" oneof:"default legacy" doc:"how long the id in values is: 8 bytes, or legacy 4"`
	} `yaml:"options"`
}

// registryOptions are those of all registries.
type registryOptions struct {
	URL           text `yaml:"url" need:"true" doc:"where the registry is"`
	MaxAge        int  `yaml:"max-age" is:"count" default:"300" doc:"seconds after which the latest version of a subject is looked up again"` // seconds
	Authorization text `yaml:"credentials.headers.authorization" doc:"value of the header, such as Basic or Bearer with what follows"`
	TLS           struct {
		Keys         []text `yaml:"keys" doc:"names of keys in the vault"`
		Trust        []text `yaml:"trust" doc:"names of certificates in the vault"`
		TrustCACerts text   `yaml:"trustcacerts" oneof:"true false" doc:"whether the authorities of the system are trusted, too"`
	} `yaml:"tls" doc:"how the registry is trusted, and what it is shown"`
}

// registrySpec is what a catalog of either kind says.
type registrySpec struct {
	vault text
	*registryOptions
	registry Registry // what is of one kind alone
}

func (r *registryCatalog) spec() *registrySpec {
	s := &registrySpec{vault: r.Vault, registryOptions: &r.Options.registryOptions}
	if own := r.Options.Context.value; own != "default" && own != "." {
		s.registry.Context = own
	}
	return s
}

func (a *apicurioCatalog) spec() *registrySpec {
	s := &registrySpec{vault: a.Vault, registryOptions: &a.Options.registryOptions}
	s.registry = Registry{Apicurio: true, Group: cmp.Or(a.Options.Group.value, "default"), ContentID: a.Options.UseID.value == "contentId", IDBytes: 8}
	if a.Options.IDEncoding.value == "legacy" {
		s.registry.IDBytes = 4
	}
	return s
}

// schemaRef names a schema of a registry.
type schemaRef struct {
	spot
	Subject  text          `yaml:"subject" doc:"of the registry"`
	Version  schemaVersion `yaml:"version" doc:"of the subject, or latest"`
	ID       schemaID      `yaml:"id" doc:"of a schema"`
	Strategy text          `yaml:"strategy" oneof:"topic record topic-record" doc:"what makes the subject"`
}

// writerRef is what files say of the schema of values that tell it themselves.
type writerRef struct {
	Subject  anything `yaml:"subject" idle:"a value tells the id of its schema" doc:"of a schema"`
	Version  anything `yaml:"version" idle:"a value tells the id of its schema" doc:"of a schema"`
	ID       anything `yaml:"id" idle:"a value tells the id of its schema" doc:"of a schema"`
	Strategy anything `yaml:"strategy" idle:"a value tells the id of its schema" doc:"of a schema"`
}

// schemaVersion is that of a subject.
type schemaVersion struct{ text }

var legalVersion = regexp.MustCompile((&schemaVersion{}).regexp())

func (*schemaVersion) regexp() string { return `^(latest|[1-9][0-9]{0,8})$` }

func (v *schemaVersion) parse(value string) string {
	if !legalVersion.MatchString(value) {
		return "must be a whole number from 1 or latest"
	}
	return ""
}

// schemaID is that of a schema.
type schemaID struct{ text }

var legalID = regexp.MustCompile((&schemaID{}).regexp())

func (*schemaID) regexp() string { return `^[1-9][0-9]{0,8}$` }

func (i *schemaID) parse(value string) string {
	if !legalID.MatchString(value) {
		return "must be a whole number from 1"
	}
	return ""
}
