# Made by `stoker render`; change platform.yaml and render again.

data "aws_lbs" "gateway" {
  tags = {
    stoker-load-balancer = "everything/agentic-ai/gateway-nlb"
  }
}

data "aws_lb" "gateway" {
  count = length(data.aws_lbs.gateway.arns)
  arn   = one(data.aws_lbs.gateway.arns)
}

resource "aws_api_gateway_vpc_link" "websocket" {
  count       = length(data.aws_lbs.gateway.arns)
  name        = "everything-agentic-ai-websocket"
  target_arns = [data.aws_lb.gateway[0].arn]
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

resource "aws_apigatewayv2_api" "websocket" {
  count                      = length(data.aws_lbs.gateway.arns)
  name                       = "everything-agentic-ai-websocket"
  protocol_type              = "WEBSOCKET"
  route_selection_expression = "$request.body.action"
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

resource "aws_apigatewayv2_integration" "connect" {
  count            = length(data.aws_lbs.gateway.arns)
  api_id           = aws_apigatewayv2_api.websocket[0].id
  integration_type = "MOCK"
  request_templates = {
    "200" = "{\"statusCode\": 200}"
  }
  template_selection_expression = "200"
}

resource "aws_apigatewayv2_route" "connect" {
  count              = length(data.aws_lbs.gateway.arns)
  api_id             = aws_apigatewayv2_api.websocket[0].id
  route_key          = "$connect"
  target             = "integrations/${aws_apigatewayv2_integration.connect[0].id}"
  authorization_type = "AWS_IAM"
}

resource "aws_apigatewayv2_integration" "chat" {
  count              = length(data.aws_lbs.gateway.arns)
  api_id             = aws_apigatewayv2_api.websocket[0].id
  integration_type   = "HTTP"
  integration_method = "POST"
  integration_uri    = "http://${data.aws_lb.gateway[0].dns_name}:8080/v1/chat/completions"
  connection_type    = "VPC_LINK"
  connection_id      = aws_api_gateway_vpc_link.websocket[0].id
  request_parameters = {
    "integration.request.header.Authorization" = "route.request.body.key"
    "integration.request.header.Content-Type"  = "'application/json'"
    "integration.request.header.X-Session-Id"  = "context.connectionId"
    "integration.request.header.Prefer"        = "'respond-async, wait=20'"
  }
  request_templates = {
    body = "$input.json('$.body')"
  }
  template_selection_expression = "body"
  passthrough_behavior          = "NEVER"
  timeout_milliseconds          = 29000
}

resource "aws_apigatewayv2_route" "chat" {
  count                               = length(data.aws_lbs.gateway.arns)
  api_id                              = aws_apigatewayv2_api.websocket[0].id
  route_key                           = "chat"
  target                              = "integrations/${aws_apigatewayv2_integration.chat[0].id}"
  route_response_selection_expression = "$default"
}

resource "aws_apigatewayv2_route_response" "chat" {
  count              = length(data.aws_lbs.gateway.arns)
  api_id             = aws_apigatewayv2_api.websocket[0].id
  route_id           = aws_apigatewayv2_route.chat[0].id
  route_response_key = "$default"
}

resource "aws_apigatewayv2_integration_response" "chat" {
  count                    = length(data.aws_lbs.gateway.arns)
  api_id                   = aws_apigatewayv2_api.websocket[0].id
  integration_id           = aws_apigatewayv2_integration.chat[0].id
  integration_response_key = "$default"
}

resource "aws_apigatewayv2_integration" "task" {
  count              = length(data.aws_lbs.gateway.arns)
  api_id             = aws_apigatewayv2_api.websocket[0].id
  integration_type   = "HTTP"
  integration_method = "POST"
  integration_uri    = "http://${data.aws_lb.gateway[0].dns_name}:8080/v1/tasks"
  connection_type    = "VPC_LINK"
  connection_id      = aws_api_gateway_vpc_link.websocket[0].id
  request_parameters = {
    "integration.request.header.Authorization" = "route.request.body.key"
    "integration.request.header.Content-Type"  = "'application/json'"
    "integration.request.header.X-Session-Id"  = "context.connectionId"
  }
  request_templates = {
    body = "$input.json('$.body')"
  }
  template_selection_expression = "body"
  passthrough_behavior          = "NEVER"
  timeout_milliseconds          = 29000
}

resource "aws_apigatewayv2_route" "task" {
  count                               = length(data.aws_lbs.gateway.arns)
  api_id                              = aws_apigatewayv2_api.websocket[0].id
  route_key                           = "task"
  target                              = "integrations/${aws_apigatewayv2_integration.task[0].id}"
  route_response_selection_expression = "$default"
}

resource "aws_apigatewayv2_route_response" "task" {
  count              = length(data.aws_lbs.gateway.arns)
  api_id             = aws_apigatewayv2_api.websocket[0].id
  route_id           = aws_apigatewayv2_route.task[0].id
  route_response_key = "$default"
}

resource "aws_apigatewayv2_integration_response" "task" {
  count                    = length(data.aws_lbs.gateway.arns)
  api_id                   = aws_apigatewayv2_api.websocket[0].id
  integration_id           = aws_apigatewayv2_integration.task[0].id
  integration_response_key = "$default"
}

resource "aws_apigatewayv2_integration" "result" {
  count              = length(data.aws_lbs.gateway.arns)
  api_id             = aws_apigatewayv2_api.websocket[0].id
  integration_type   = "HTTP"
  integration_method = "GET"
  integration_uri    = "http://${data.aws_lb.gateway[0].dns_name}:8080/v1/tasks/{id}"
  connection_type    = "VPC_LINK"
  connection_id      = aws_api_gateway_vpc_link.websocket[0].id
  request_parameters = {
    "integration.request.header.Authorization" = "route.request.body.key"
    "integration.request.path.id"              = "route.request.body.id"
    "integration.request.querystring.wait"     = "'20'"
  }
  request_templates = {
    body = "{}"
  }
  template_selection_expression = "body"
  passthrough_behavior          = "NEVER"
  timeout_milliseconds          = 29000
}

resource "aws_apigatewayv2_route" "result" {
  count                               = length(data.aws_lbs.gateway.arns)
  api_id                              = aws_apigatewayv2_api.websocket[0].id
  route_key                           = "result"
  target                              = "integrations/${aws_apigatewayv2_integration.result[0].id}"
  route_response_selection_expression = "$default"
}

resource "aws_apigatewayv2_route_response" "result" {
  count              = length(data.aws_lbs.gateway.arns)
  api_id             = aws_apigatewayv2_api.websocket[0].id
  route_id           = aws_apigatewayv2_route.result[0].id
  route_response_key = "$default"
}

resource "aws_apigatewayv2_integration_response" "result" {
  count                    = length(data.aws_lbs.gateway.arns)
  api_id                   = aws_apigatewayv2_api.websocket[0].id
  integration_id           = aws_apigatewayv2_integration.result[0].id
  integration_response_key = "$default"
}

resource "aws_apigatewayv2_integration" "otherwise" {
  count            = length(data.aws_lbs.gateway.arns)
  api_id           = aws_apigatewayv2_api.websocket[0].id
  integration_type = "MOCK"
  request_templates = {
    "200" = "{\"statusCode\": 200}"
  }
  template_selection_expression = "200"
}

resource "aws_apigatewayv2_route" "otherwise" {
  count                               = length(data.aws_lbs.gateway.arns)
  api_id                              = aws_apigatewayv2_api.websocket[0].id
  route_key                           = "$default"
  target                              = "integrations/${aws_apigatewayv2_integration.otherwise[0].id}"
  route_response_selection_expression = "$default"
}

resource "aws_apigatewayv2_route_response" "otherwise" {
  count              = length(data.aws_lbs.gateway.arns)
  api_id             = aws_apigatewayv2_api.websocket[0].id
  route_id           = aws_apigatewayv2_route.otherwise[0].id
  route_response_key = "$default"
}

resource "aws_apigatewayv2_integration_response" "otherwise" {
  count                    = length(data.aws_lbs.gateway.arns)
  api_id                   = aws_apigatewayv2_api.websocket[0].id
  integration_id           = aws_apigatewayv2_integration.otherwise[0].id
  integration_response_key = "$default"
  response_templates = {
    "200" = "{\"error\": {\"message\": \"action has to be one of: chat, task, result\", \"code\": \"unknown_action\"}}"
  }
  template_selection_expression = "200"
}

resource "aws_apigatewayv2_deployment" "websocket" {
  count  = length(data.aws_lbs.gateway.arns)
  api_id = aws_apigatewayv2_api.websocket[0].id
  triggers = {
    routes = sha1(jsonencode([aws_apigatewayv2_integration.chat, aws_apigatewayv2_integration.task, aws_apigatewayv2_integration.result, aws_apigatewayv2_integration.connect, aws_apigatewayv2_integration.otherwise, aws_apigatewayv2_route.chat, aws_apigatewayv2_route.task, aws_apigatewayv2_route.result, aws_apigatewayv2_route.connect, aws_apigatewayv2_route.otherwise, aws_apigatewayv2_integration_response.chat, aws_apigatewayv2_integration_response.task, aws_apigatewayv2_integration_response.result, aws_apigatewayv2_integration_response.otherwise, aws_apigatewayv2_route_response.chat, aws_apigatewayv2_route_response.task, aws_apigatewayv2_route_response.result, aws_apigatewayv2_route_response.otherwise]))
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudwatch_log_group" "websocket" {
  count             = length(data.aws_lbs.gateway.arns)
  name              = "/aws/apigateway/everything-agentic-ai-websocket"
  retention_in_days = 30
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

resource "aws_apigatewayv2_stage" "websocket" {
  count         = length(data.aws_lbs.gateway.arns)
  api_id        = aws_apigatewayv2_api.websocket[0].id
  name          = "v1"
  deployment_id = aws_apigatewayv2_deployment.websocket[0].id
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.websocket[0].arn
    format = jsonencode({
      time              = "$context.requestTime"
      request           = "$context.requestId"
      connection        = "$context.connectionId"
      event             = "$context.eventType"
      route             = "$context.routeKey"
      status            = "$context.status"
      address           = "$context.identity.sourceIp"
      caller            = "$context.identity.caller"
      error             = "$context.error.message"
      integration_error = "$context.integrationErrorMessage"
      integration_ms    = "$context.integrationLatency"
    })
  }

  default_route_settings {
    throttling_rate_limit    = var.websocket_rate_limit
    throttling_burst_limit   = var.websocket_burst_limit
    detailed_metrics_enabled = true
    logging_level            = "ERROR"
    data_trace_enabled       = false
  }
}

resource "aws_iam_policy" "websocket" {
  count       = length(data.aws_lbs.gateway.arns)
  name        = "everything-agentic-ai-websocket"
  description = "May connect to the WebSocket API of Stoker."
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["execute-api:Invoke"]
        Resource = ["${aws_apigatewayv2_api.websocket[0].execution_arn}/v1/$connect"]
      },
    ]
  })
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

output "websocket_url" {
  description = "Where clients connect; null until there is a load balancer."
  value       = one(aws_apigatewayv2_stage.websocket[*].invoke_url)
}
