-- Two tenants; two years of jobs, cloud sessions and storage up to the variable `today`.
create table jobs as
select tenant_id, tenant_no * 100000 + n as job_id, 'cluster-' || (n % 3 + 1) as resource, ['normal', 'debug', 'gpu'][n % 3 + 1] as queue,
    'user' || (n % 20) as system_username, 'PI ' || (n % 5) as pi, ['Physics', 'Biology', 'Chemistry'][n % 3 + 1] as field_of_science,
    600 + (hash(n) % 80000)::bigint as wall_time, getvariable('today')::timestamptz - to_hours(n * 6) as end_time,
    end_time - to_seconds(wall_time) as start_time, start_time - to_minutes(n % 90) as submit_time, n % 8 + 1 as nodes,
    (n % 8 + 1) * 32 as cores, (n % 3 // 2) * 4 as gpus, ((n % 8 + 1) * 32 * wall_time / 3600)::decimal(12, 4) as cpu_hours,
    ['COMPLETED', 'COMPLETED', 'TIMEOUT', 'FAILED'][n % 4 + 1] as exit_state, end_time as updated_at, getvariable('planted') || n as auth_token
from (values ('acme', 1), ('globex', 2)) as tenants(tenant_id, tenant_no), range(2920) as numbers(n);

create table cloud as
select tenant_id, tenant_no * 100000 + n as session_id, 'vm-' || (n % 40) as instance, 'cloud-' || (n % 2 + 1) as resource,
    'user' || (n % 20) as system_username, ['c1.small', 'c1.large'][n % 2 + 1] as instance_type, (n % 2 + 1) * 4 as vcpus,
    ((n % 2 + 1) * 7.5)::decimal(8, 2) as memory_gb, getvariable('today')::timestamptz - to_days(n) as end_time,
    end_time - to_minutes(30 + n % 600) as start_time, end_time as updated_at
from (values ('acme', 1), ('globex', 2)) as tenants(tenant_id, tenant_no), range(730) as numbers(n);

create table storage as
select tenant_id, tenant_no * 100000 + n as id, ['/home', '/scratch'][n % 2 + 1] as mountpoint, 'user' || (n % 20) as system_username,
    getvariable('today')::timestamptz - to_days(n) as day, 1000 + (hash(n) % 50000)::bigint as file_count,
    (hash(n, 1) % 1000000000000)::bigint as logical_usage, (logical_usage * 1.1)::bigint as physical_usage, 1000000000000 as soft_threshold,
    day as updated_at
from (values ('acme', 1), ('globex', 2)) as tenants(tenant_id, tenant_no), range(730) as numbers(n);
