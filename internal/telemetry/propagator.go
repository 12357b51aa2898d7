package telemetry

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/propagation"
)

// w3c is trace context and baggage, in metadata as in record headers.
func w3c() propagation.TextMapPropagator {
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}

// propagatorOf is what OTEL_PROPAGATORS asks for. Records have headers for the formats of the W3C alone.
func propagatorOf(variable string) (propagation.TextMapPropagator, error) {
	var names []string
	for _, name := range strings.Split(variable, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return w3c(), nil
	}
	if slices.Contains(names, "none") && len(names) > 1 {
		return nil, fmt.Errorf("OTEL_PROPAGATORS=%q: none stands alone", variable)
	}
	var all []propagation.TextMapPropagator
	var problems []error
	for _, name := range names {
		switch name {
		case "none":
		case "tracecontext":
			all = append(all, propagation.TraceContext{})
		case "baggage":
			all = append(all, propagation.Baggage{})
		default:
			problems = append(problems, fmt.Errorf("OTEL_PROPAGATORS=%q: %q is not supported, since records carry tracecontext and baggage: use these, or none", variable, name))
		}
	}
	return propagation.NewCompositeTextMapPropagator(all...), errors.Join(problems...)
}
