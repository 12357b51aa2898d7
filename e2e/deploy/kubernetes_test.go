package deploy_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// stopping is what an instance needs beyond the drain time: to store the last results and to close.
const stopping = 15 * time.Second

// manifests are all objects of deploy/kubernetes. A field that its type does not have, or has twice, fails the test.
func manifests(t *testing.T) []runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(appsv1.AddToScheme(scheme), corev1.AddToScheme(scheme), policyv1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	files, err := filepath.Glob(filepath.Join(folder, "kubernetes", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	var out []runtime.Object
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			object, _, err := strict.Decode(document, nil, nil)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			out = append(out, object)
		}
	}
	return out
}

// one is the only object of its type.
func one[T runtime.Object](t *testing.T, objects []runtime.Object) T {
	t.Helper()
	var found []T
	for _, o := range objects {
		if typed, ok := o.(T); ok {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d manifests are %T, not one", len(found), *new(T))
	}
	return found[0]
}

func TestKubernetes(t *testing.T) {
	objects := manifests(t)
	set, budget, config := one[*appsv1.StatefulSet](t, objects), one[*policyv1.PodDisruptionBudget](t, objects), one[*corev1.ConfigMap](t, objects)
	pod := set.Spec.Template
	if len(pod.Spec.Containers) != 1 {
		t.Fatalf("%d containers, not one", len(pod.Spec.Containers))
	}
	container := pod.Spec.Containers[0]

	t.Run("objects find each other", func(t *testing.T) {
		want := labels.Set(pod.Labels)
		for what, selector := range map[string]map[string]string{
			"StatefulSet": set.Spec.Selector.MatchLabels, "PodDisruptionBudget": budget.Spec.Selector.MatchLabels,
		} {
			if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(want) {
				t.Errorf("the selector %v of the %s does not match the pods' labels %v", selector, what, want)
			}
		}
		headless := false
		for _, o := range objects {
			service, ok := o.(*corev1.Service)
			if !ok {
				continue
			}
			if !labels.SelectorFromSet(service.Spec.Selector).Matches(want) {
				t.Errorf("service %s does not select the pods", service.Name)
			}
			for _, port := range service.Spec.Ports {
				if !slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.String() }) {
					t.Errorf("service %s: no container port is called %s", service.Name, port.TargetPort.String())
				}
			}
			headless = headless || service.Name == set.Spec.ServiceName && service.Spec.ClusterIP == corev1.ClusterIPNone
		}
		if !headless {
			t.Errorf("the StatefulSet's service %s is not there, or not headless", set.Spec.ServiceName)
		}
		mounts := map[string]string{}
		for _, m := range container.VolumeMounts {
			mounts[m.Name] = m.MountPath
		}
		if len(set.Spec.VolumeClaimTemplates) != 1 || mounts[set.Spec.VolumeClaimTemplates[0].Name] != "/var/lib/kafka-grpc" {
			t.Errorf("the state folder is not on a volume of each instance: %v", mounts)
		}
		for _, v := range pod.Spec.Volumes {
			if v.ConfigMap == nil || v.ConfigMap.Name != config.Name || mounts[v.Name] != "/etc/kafka-grpc" {
				t.Errorf("volume %s is not the ConfigMap %s on /etc/kafka-grpc", v.Name, config.Name)
			}
		}
	})

	t.Run("the program takes its arguments", func(t *testing.T) {
		env := map[string]string{}
		for _, e := range container.Env {
			env[e.Name] = e.Value
			if e.Name == "KAFKA_GRPC_INSTANCE_ID" && (e.ValueFrom == nil || e.ValueFrom.FieldRef == nil || e.ValueFrom.FieldRef.FieldPath != "metadata.name") {
				t.Error("the instance id is not the pod's name")
			}
		}
		if _, ok := env["KAFKA_GRPC_INSTANCE_ID"]; !ok {
			t.Error("no instance id: restarted pods would be new members of the group")
		}
		takes(t, env, container.Args...)
		for name, probe := range map[string]*corev1.Probe{
			"startup": container.StartupProbe, "liveness": container.LivenessProbe, "readiness": container.ReadinessProbe,
		} {
			switch {
			case probe == nil:
				t.Errorf("no %s probe", name)
			case probe.Exec == nil || len(probe.Exec.Command) < 2 || probe.Exec.Command[0] != "/kafka-grpc":
				t.Errorf("the %s probe does not run /kafka-grpc", name)
			default:
				takes(t, nil, probe.Exec.Command[1:]...)
			}
		}
	})

	t.Run("an orderly stop has its time", func(t *testing.T) {
		dir := t.TempDir()
		for name, text := range config.Data {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		drain := drainOf(t, filepath.Join(dir, "zilla.yaml"))
		if grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second; grace < drain+stopping {
			t.Errorf("the pod is killed after %v, and calls in flight get %v", grace, drain)
		}
	})

	t.Run("one instance at a time", func(t *testing.T) {
		if set.Spec.UpdateStrategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
			t.Errorf("update strategy %q", set.Spec.UpdateStrategy.Type)
		}
		if most := budget.Spec.MaxUnavailable; most == nil || *most != intstr.FromInt32(1) {
			t.Errorf("the disruption budget lets %v pods be away", most)
		}
	})

	t.Run("no more rights than needed", func(t *testing.T) {
		p, c := pod.Spec.SecurityContext, container.SecurityContext
		if p == nil || p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.RunAsUser == nil || *p.RunAsUser != 65532 || p.FSGroup == nil || *p.FSGroup != 65532 {
			t.Errorf("the pod's user: %+v", p)
		}
		if c == nil || c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem || c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation ||
			c.Capabilities == nil || !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(c.Capabilities.Add) > 0 {
			t.Errorf("the container's rights: %+v", c)
		}
		if mounted := pod.Spec.AutomountServiceAccountToken; mounted == nil || *mounted {
			t.Error("the pod gets a token for the cluster's API")
		}
	})
}
