package deploy

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/wafv2"
	"sigs.k8s.io/yaml"
)

// capacities are the units of AWS' managed rule groups, as its documentation
// gives them. A web ACL has 1,500 without asking for more.
var capacities = map[string]int{
	"AWSManagedRulesAmazonIpReputationList": 25,
	"AWSManagedRulesCommonRuleSet":          700,
	"AWSManagedRulesKnownBadInputsRuleSet":  200,
	"AWSManagedRulesSQLiRuleSet":            200,
	"AWSManagedRulesLinuxRuleSet":           200,
}

func strict(t *testing.T, content string, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func webACL(t *testing.T) (acl wafv2.CreateWebACLInput) {
	t.Helper()
	strict(t, text(t, "../../deploy/waf/aws-web-acl.json"), &acl)
	return acl
}

// TestAWSWebACL reads the rules with AWS' own model, in which a misspelt member
// fails, and holds them against what the service would refuse or not do.
func TestAWSWebACL(t *testing.T) {
	acl := webACL(t)
	if acl.Scope != "CLOUDFRONT" || acl.DefaultAction == nil || acl.DefaultAction.Allow == nil || acl.VisibilityConfig == nil {
		t.Errorf("scope %s, default action %+v", acl.Scope, acl.DefaultAction)
	}
	priorities, units, groups := make(map[int32]bool), 0, []string{}
	rate, body := false, false
	for _, r := range acl.Rules {
		if priorities[r.Priority] {
			t.Errorf("%s has the priority of another rule", *r.Name)
		}
		priorities[r.Priority] = true
		if r.VisibilityConfig == nil || !r.VisibilityConfig.CloudWatchMetricsEnabled || *r.VisibilityConfig.MetricName != *r.Name {
			t.Errorf("%s cannot be seen under its name", *r.Name)
		}
		s := r.Statement
		if m := s.ManagedRuleGroupStatement; m != nil {
			if r.OverrideAction == nil || r.OverrideAction.None == nil || r.Action != nil {
				t.Errorf("%s: the group's actions do not stand", *r.Name)
			}
			if capacities[*m.Name] == 0 || *m.VendorName != "AWS" {
				t.Errorf("%s is no managed group that is known here", *m.Name)
			}
			units += capacities[*m.Name]
			groups = append(groups, *m.Name)
			continue
		}
		units += 30 // more than any of the rules that are written out
		if r.Action == nil || r.Action.Block == nil {
			t.Errorf("%s blocks nothing", *r.Name)
			continue
		}
		if s.RateBasedStatement != nil && s.RateBasedStatement.ScopeDownStatement == nil {
			rate = *s.RateBasedStatement.Limit >= 10 && *r.Action.Block.CustomResponse.ResponseCode == 429
		}
		if s.SizeConstraintStatement != nil && s.SizeConstraintStatement.FieldToMatch.Body != nil {
			// What is longer than the inspected part must not pass for that.
			body = s.SizeConstraintStatement.FieldToMatch.Body.OversizeHandling == "MATCH" && s.SizeConstraintStatement.Size == 64<<10 &&
				acl.AssociationConfig.RequestBody["CLOUDFRONT"].DefaultSizeInspectionLimit == "KB_64"
		}
	}
	if !rate || !body {
		t.Errorf("a rate for each address: %v; a bound on bodies that is inspected: %v", rate, body)
	}
	if units > 1500 {
		t.Errorf("%d units, a web ACL has 1500", units)
	}
	for name := range capacities {
		if !slices.Contains(groups, name) {
			t.Errorf("the group %s is not used", name)
		}
	}
}

// armor is Cloud Armor's SecurityPolicy, as far as it is used here.
type armor struct {
	Name, Type               string
	AdaptiveProtectionConfig struct {
		Layer7DdosDefenseConfig struct{ Enable bool }
	}
	AdvancedOptionsConfig struct{ JSONParsing, LogLevel string }
	Rules                 []struct {
		Priority    int64
		Description string
		Match       struct {
			Expr          *struct{ Expression string }
			VersionedExpr string
			Config        *struct{ SrcIPRanges []string }
		}
		Action           string
		RateLimitOptions *struct {
			ConformAction, ExceedAction, EnforceOnKey string
			RateLimitThreshold                        struct{ Count, IntervalSec int }
		}
	}
}

var (
	preconfigured = regexp.MustCompile(`^evaluatePreconfiguredWaf\('([a-z0-9-]+)', \{'sensitivity': ([1-4])\}\)$`)
	// The sets of the Core Rule Set 3.3 that Cloud Armor has, without those of
	// languages that an upstream here may not be written in.
	signatures = []string{"sqli-v33-stable", "xss-v33-stable", "lfi-v33-stable", "rfi-v33-stable", "rce-v33-stable",
		"protocolattack-v33-stable", "sessionfixation-v33-stable", "scannerdetection-v33-stable", "cve-canary"}
)

func cloudArmor(t *testing.T) (a armor) {
	t.Helper()
	content, err := yaml.YAMLToJSON([]byte(text(t, "../../deploy/waf/cloud-armor.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	strict(t, string(content), &a)
	return a
}

func TestCloudArmor(t *testing.T) {
	a := cloudArmor(t)
	var sets []string
	last, rate, body := int64(-1), false, false
	for _, r := range a.Rules {
		if r.Priority <= last {
			t.Errorf("%s is out of order or shares its priority", r.Description)
		}
		last = r.Priority
		switch r.Action {
		case "allow", "deny(403)", "deny(404)", "throttle":
		default:
			t.Errorf("%s has the action %q", r.Description, r.Action)
		}
		if (r.Action == "throttle") != (r.RateLimitOptions != nil) {
			t.Errorf("%s: the rate and the action do not belong together", r.Description)
		}
		if (r.Match.Expr == nil) == (r.Match.VersionedExpr == "") {
			t.Errorf("%s matches by both ways or by none", r.Description)
		}
		if o := r.RateLimitOptions; o != nil && r.Match.Expr == nil {
			rate = o.EnforceOnKey == "IP" && o.ExceedAction == "deny(429)" && o.RateLimitThreshold.Count > 0
		}
		if r.Match.Expr == nil {
			continue
		}
		expression := r.Match.Expr.Expression
		body = body || strings.Contains(expression, "int(request.headers['content-length']) > 65536")
		if strings.Contains(expression, "evaluatePreconfigured") {
			m := preconfigured.FindStringSubmatch(expression)
			if m == nil || !slices.Contains(signatures, m[1]) {
				t.Errorf("%s: %s is no preconfigured set that is known here", r.Description, expression)
				continue
			}
			sets = append(sets, m[1])
		}
	}
	if end := a.Rules[len(a.Rules)-1]; end.Priority != 2147483647 || end.Action != "allow" {
		t.Error("the last rule is not the default")
	}
	if !rate || !body || len(sets) != len(signatures) {
		t.Errorf("a rate for each address: %v; a bound on bodies: %v; signatures %v", rate, body, sets)
	}
}

var category = regexp.MustCompile(`(?m)^\| (A\d\d) [^|]*\|([^|]*)\|([^|]*)\|`)

// TestTopTen compares the table of docs/edge.md with the rules: each category
// of the OWASP Top 10 names rules of both files, or says that none can help.
func TestTopTen(t *testing.T) {
	aws, google := make(map[string]bool), make(map[string]bool)
	for _, r := range webACL(t).Rules {
		aws[*r.Name] = true
	}
	for _, r := range cloudArmor(t).Rules {
		google[r.Description] = true
	}
	rows := category.FindAllStringSubmatch(text(t, "../../docs/edge.md"), -1)
	if len(rows) != 10 {
		t.Fatalf("docs/edge.md has %d categories, want 10", len(rows))
	}
	named := regexp.MustCompile("`([^`]+)`")
	for _, row := range rows {
		for i, rules := range []map[string]bool{aws, google} {
			names := named.FindAllStringSubmatch(row[2+i], -1)
			if len(names) == 0 && strings.TrimSpace(row[2+i]) != "none can" {
				t.Errorf("%s names no rule", row[1])
			}
			for _, n := range names {
				if !rules[n[1]] {
					t.Errorf("%s names %s, which is no rule", row[1], n[1])
				}
			}
		}
	}
}

// TestArchive reads the bucket's three calls with AWS' own model: what is
// written cannot be deleted before its time by anybody, and then is.
func TestArchive(t *testing.T) {
	var a struct {
		CreateBucket                    s3.CreateBucketInput
		PutObjectLockConfiguration      s3.PutObjectLockConfigurationInput
		PutBucketLifecycleConfiguration s3.PutBucketLifecycleConfigurationInput
	}
	strict(t, text(t, "../../deploy/archive/s3-bucket.json"), &a)
	retention := a.PutObjectLockConfiguration.ObjectLockConfiguration.Rule.DefaultRetention
	if !*a.CreateBucket.ObjectLockEnabledForBucket || retention.Mode != "COMPLIANCE" || *retention.Years < 1 {
		t.Errorf("retention %+v, want years of COMPLIANCE in a bucket with object lock", retention)
	}
	for _, r := range a.PutBucketLifecycleConfiguration.LifecycleConfiguration.Rules {
		if n := r.NoncurrentVersionExpiration; n == nil || *n.NoncurrentDays < *retention.Years*365 {
			t.Errorf("%s lets versions go before the retention of %d years ends, or never", *r.ID, *retention.Years)
		}
	}
	if b := a.PutObjectLockConfiguration.Bucket; *b != *a.CreateBucket.Bucket || *b != *a.PutBucketLifecycleConfiguration.Bucket {
		t.Error("the calls are for different buckets")
	}
}
